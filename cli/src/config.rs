//! `windlass config`: which settings hold, and where each came from.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};
use windlass_boot::Settings;

use crate::client::settings_failure;
use crate::failure::Exit;
use crate::output::{self, Column, OutputArgs, text};

#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Print every setting as it holds here, with secrets masked
    View {
        /// A TOML file with settings [env: WINDLASS_CONFIG]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub fn config(command: ConfigCommand) -> Result<Exit> {
    let ConfigCommand::View { config, output } = command;
    let flags = config.map(|path| ("config", path.display().to_string())).into_iter().collect();
    let settings = Settings::load(flags).map_err(settings_failure)?;
    let mut items: Vec<Value> = settings
        .effective
        .iter()
        .map(|it| json!({ "name": it.name, "value": it.value, "source": it.source.as_str() }))
        .collect();
    items.extend(secrets().map(|name| json!({ "name": name, "value": "***", "source": "environment" })));
    output::list(output.output, &items, |item| text(item, "/name"), COLUMNS)?;
    Ok(Exit::Ok)
}

/// The names of the secrets that workflows may use, as expressions write them.
fn secrets() -> impl Iterator<Item = String> {
    let prefix = windlass_boot::settings::table::SECRET_PREFIX;
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| Some(format!("secrets.{}", name.to_str()?.strip_prefix(prefix)?)))
        .collect();
    names.sort();
    names.into_iter()
}

const COLUMNS: &[Column] = &[
    Column { title: "SETTING", cell: |it| text(it, "/name") },
    Column {
        title: "VALUE",
        cell: |it| Some(text(it, "/value")).filter(|it| !it.is_empty()).unwrap_or("none".into()),
    },
    Column { title: "SOURCE", cell: |it| text(it, "/source") },
];
