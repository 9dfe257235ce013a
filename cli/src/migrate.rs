//! `windlass migrate`: brings the schema of a database up to date, once, before the new processes start.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use windlass_boot::{Settings, telemetry};

use crate::client::settings_failure;
use crate::failure::Exit;
use crate::output;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  WINDLASS_DATABASE_URL=postgres://windlass@db/windlass windlass migrate

Processes that do this at the same time wait for each other. A schema that is newer than this Windlass is left alone, \
and refused. docs/operating.md tells how to upgrade a fleet.")]
pub struct MigrateArgs {
    /// A TOML file with settings [env: WINDLASS_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub async fn migrate(args: MigrateArgs) -> Result<Exit> {
    let flags = args.config.iter().map(|path| ("config", path.display().to_string())).collect();
    let settings = Settings::load(flags).map_err(settings_failure)?;
    telemetry::init(&settings, "info")?;
    windlass_boot::open_store(&settings, true).await?;
    output::data(&format!("{} is up to date", settings.database_url))?;
    Ok(Exit::Ok)
}
