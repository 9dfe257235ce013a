//! What `api`, `worker` and `migrate` share: which settings they need, and how they find their database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_boot::{DatabaseUrl, Settings};
use windlass_store::Store;

use crate::client::settings_failure;
use crate::failure::Failure;

/// A database that is not there yet may be starting, too. After this long somebody should know.
const DATABASE_WAIT_MAX: Duration = Duration::from_secs(60);
const DATABASE_WAIT_PAUSE: Duration = Duration::from_secs(1);

/// What all processes of a fleet may be told.
#[derive(Args, Debug)]
pub struct FleetArgs {
    /// A TOML file with settings [env: WINDLASS_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bring an older schema of the database up to date first [env: WINDLASS_MIGRATE_ON_START]
    #[arg(long)]
    migrate: bool,
}

impl FleetArgs {
    /// # Errors
    /// When a setting is wrong, or missing in a fleet.
    pub fn settings(&self, flag: Option<(&'static str, String)>) -> Result<Settings> {
        let config = self.config.as_ref().map(|path| ("config", path.display().to_string()));
        let migrate = self.migrate.then(|| ("migrate_on_start", "yes".to_owned()));
        let flags = config.into_iter().chain(migrate).chain(flag).collect();
        let settings = Settings::load(flags).map_err(settings_failure)?;
        if matches!(settings.database_url, DatabaseUrl::Sqlite(_)) {
            let problem =
                format!("{} belongs to one process, and this is one of several", settings.database_url);
            return Err(Failure::usage(problem)
                .hint("set WINDLASS_DATABASE_URL=postgres://user:password@host/name, or use `windlass dev`")
                .into());
        }
        if settings.redis_url.is_none() {
            return Err(Failure::usage(
                "the processes of a fleet tell each other news through Redis, and none is named",
            )
            .hint("set WINDLASS_REDIS_URL=redis://host:6379")
            .into());
        }
        Ok(settings)
    }
}

/// Opens the database, and waits a while for one that is not there.
///
/// # Errors
/// When its schema is not ours, or it did not come, or `shutdown` did.
pub async fn open_store(settings: &Settings, shutdown: &CancellationToken) -> Result<Arc<dyn Store>> {
    let began = Instant::now();
    loop {
        match windlass_boot::open_store(settings, settings.migrate_on_start).await {
            Err(error) if windlass_boot::is_away(&error) && began.elapsed() < DATABASE_WAIT_MAX => {
                tracing::warn!("{error:#}; trying again");
                let pause = tokio::time::sleep(DATABASE_WAIT_PAUSE);
                if shutdown.run_until_cancelled(pause).await.is_none() {
                    return Err(error);
                }
            }
            opened => return opened,
        }
    }
}
