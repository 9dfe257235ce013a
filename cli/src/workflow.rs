//! `windlass workflow`: publish definitions and look at what is published.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::ServerArgs;
use crate::definitions::Source;
use crate::failure::Exit;
use crate::output::{self, Column, OutputArgs, text, time};
use crate::push;

/// Rows that a list shows unless more are asked for.
const LIMIT_DEFAULT: usize = 50;

#[derive(Subcommand, Debug)]
pub enum WorkflowCommand {
    /// Publish definitions under the names they give themselves
    #[command(after_help = "\
Examples:
  windlass workflow push order.yaml refund.yaml
  windlass workflow push order.yaml --tag team-a --tag nightly

Content that is already the latest version makes no new version. Runs stay with the version they \
began with.")]
    Push {
        /// Definitions: files, or `-` for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A tag to find it by; may be given several times
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List what is published
    List {
        /// Only those with this tag
        #[arg(long)]
        tag: Option<String>,
        /// Only those whose name contains this
        #[arg(long)]
        text: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Print one definition as it is published
    Get {
        /// The name, with @VERSION for another than the latest
        #[arg(value_name = "NAME[@VERSION]")]
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// List the versions of one workflow, newest first
    Versions {
        name: String,
        /// How many at most
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Hide a workflow; runs that began with it go on
    Delete {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Args, Debug)]
pub struct Common {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn workflow(command: WorkflowCommand) -> Result<Exit> {
    match command {
        WorkflowCommand::Push { files, tags, server } => {
            let client = server.client()?;
            for file in files {
                output::data(&push::push(&client, &Source::read(&file)?, &tags).await?)?;
            }
        }
        WorkflowCommand::List { tag, text, limit, common } => {
            let query: Vec<(String, String)> = [("tag", tag), ("text", text)]
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect();
            let items = common.server.client()?.list_workflows(&query, limit).await?;
            output::list(common.output.output, &items, name_of, WORKFLOW_COLUMNS)?;
        }
        WorkflowCommand::Get { name, common } => {
            let (name, version) = match name.split_once('@') {
                Some((name, version)) => (name, Some(version)),
                None => (name.as_str(), None),
            };
            let found = common.server.client()?.get_workflow(name, version).await?;
            output::object(common.output.output, &found, name, || definition_text(&found))?;
        }
        WorkflowCommand::Versions { name, limit, common } => {
            let items = common.server.client()?.list_versions(&name, limit).await?;
            output::list(common.output.output, &items, |it| text(it, "/version"), VERSION_COLUMNS)?;
        }
        WorkflowCommand::Delete { names, server } => {
            let client = server.client()?;
            for name in names {
                client.delete_workflow(&name).await?;
                output::data(&format!("deleted {name}"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn name_of(workflow: &Value) -> String {
    text(workflow, "/name")
}

/// The definition itself, which could be pushed again as it is.
fn definition_text(found: &Value) -> String {
    let spec = found.get("spec").unwrap_or(found);
    output::yaml(spec).unwrap_or_else(|_| spec.to_string())
}

const WORKFLOW_COLUMNS: &[Column] = &[
    Column { title: "NAME", cell: name_of },
    Column { title: "VERSION", cell: |it| text(it, "/version") },
    Column { title: "TAGS", cell: |it| list_text(it, "/tags") },
    Column { title: "UPDATED (UTC)", cell: |it| time(it, "/updated_at") },
];

const VERSION_COLUMNS: &[Column] = &[
    Column { title: "VERSION", cell: |it| text(it, "/version") },
    Column { title: "CREATED (UTC)", cell: |it| time(it, "/created_at") },
    Column { title: "HASH", cell: |it| text(it, "/hash").chars().take(12).collect() },
];

fn list_text(value: &Value, pointer: &str) -> String {
    let items = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}
