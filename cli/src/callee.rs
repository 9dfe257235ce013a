//! `windlass tool` and `windlass agent`: register what many workflows call.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;
use windlass_model::callee::CalleeKind;
use windlass_model::workflow::{Document, check_callees, compile_callee};

use crate::client::ServerArgs;
use crate::definitions::Source;
use crate::embedded;
use crate::failure::{Exit, Failure};
use crate::output::{self, Column, OutputArgs, text, time};

/// Rows that a list shows unless more are asked for.
const LIMIT_DEFAULT: usize = 50;

#[derive(Subcommand, Debug)]
pub enum CalleeCommand {
    /// Register those that files hold
    #[command(after_help = "\
A file holds several by name, under `tools` and `agents` as in a workflow, or one with its `name` inside. Definitions take along \
what they call when they are published: publish a workflow again to let it call what has changed.")]
    Push {
        /// Files, or `-` for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List what is registered
    List {
        /// How many at most
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Print one as it is registered
    Get {
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Delete; workflows that have taken it along keep it
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

pub async fn callee(kind: CalleeKind, command: CalleeCommand) -> Result<Exit> {
    match command {
        CalleeCommand::Push { files, server } => {
            let client = server.client()?;
            for file in files {
                let source = Source::read(&file)?;
                for spec in read(kind, &source)? {
                    let registered = client.push_callee(kind, &spec).await?;
                    let is = |key: &str| registered.get(key).and_then(Value::as_bool).unwrap_or(false);
                    let verb = match (is("created"), is("changed")) {
                        (true, _) => "created",
                        (false, true) => "updated",
                        (false, false) => "unchanged",
                    };
                    output::data(&format!("{verb} {} from {}", text(&registered, "/name"), source.name))?;
                }
            }
        }
        CalleeCommand::List { limit, common } => {
            let items = common.server.client()?.list_callees(kind, limit).await?;
            output::list(common.output.output, &items, |it| text(it, "/name"), COLUMNS)?;
        }
        CalleeCommand::Get { name, common } => {
            let found = common.server.client()?.get_callee(kind, &name).await?;
            let spec = found.get("spec").unwrap_or(&found);
            output::object(common.output.output, &found, &name, || {
                output::yaml(spec).unwrap_or_else(|_| spec.to_string())
            })?;
        }
        CalleeCommand::Delete { names, server } => {
            let client = server.client()?;
            for name in names {
                client.delete_callee(kind, &name).await?;
                output::data(&format!("deleted {name}"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// What a file holds, each with its name inside. All of it is checked before any of it is sent.
fn read(kind: CalleeKind, source: &Source) -> Result<Vec<Value>> {
    let catalog = embedded::catalog_without_registry();
    let document = Document::parse(&source.text, source.format).map_err(|it| source.refusal(&it))?;
    match document.spec.get(kind.plural()).and_then(Value::as_object) {
        Some(callees) => {
            check_callees(&document, &catalog).map_err(|problems| source.refusal(&problems))?;
            Ok(callees.iter().map(|(name, callee)| with_name(name, callee)).collect())
        }
        None if document.spec.get("do").is_some() => {
            compile_callee(&document, kind, &catalog).map_err(|problems| source.refusal(&problems))?;
            Ok(vec![document.spec])
        }
        None => {
            let problem = format!("{} has no `{}`, and no `do`", source.name, kind.plural());
            Err(Failure::new(Exit::Failed, problem).into())
        }
    }
}

fn with_name(name: &str, callee: &Value) -> Value {
    let named = std::iter::once(("name".to_owned(), Value::from(name)));
    let keys = callee.as_object().cloned().unwrap_or_default();
    Value::Object(named.chain(keys).collect())
}

const COLUMNS: &[Column] = &[
    Column { title: "NAME", cell: |it| text(it, "/name") },
    Column { title: "REVISION", cell: |it| text(it, "/revision") },
    Column { title: "RISK", cell: |it| text(it, "/risk") },
    Column { title: "UPDATED (UTC)", cell: |it| time(it, "/updated_at") },
];
