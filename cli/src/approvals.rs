//! `windlass approvals`: what waits for people, over all runs.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::failure::Exit;
use crate::output::{self, Column, text, time};
use crate::runs::Common;

/// Rows that a list shows unless more are asked for.
const LIMIT_DEFAULT: usize = 50;

#[derive(Subcommand, Debug)]
pub enum ApprovalsCommand {
    /// List approvals, oldest request first
    #[command(after_help = "\
Examples:
  windlass approvals list
  windlass approvals list --status all --run ID -o json")]
    List {
        #[arg(long, value_enum, default_value = "open")]
        status: Status,
        /// Only those of this run
        #[arg(long, value_name = "ID")]
        run: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Status {
    Open,
    Decided,
    All,
}

pub async fn approvals(command: ApprovalsCommand) -> Result<Exit> {
    let ApprovalsCommand::List { status, run, limit, common } = command;
    let status = status.to_possible_value().expect("every status has a name").get_name().to_owned();
    let mut query = vec![("status".to_owned(), status)];
    query.extend(run.map(|id| ("run".to_owned(), id)));
    let items = common.server.client()?.list_approvals(&query, limit).await?;
    output::list(common.output.output, &items, |it| text(it, "/run_id"), COLUMNS)?;
    Ok(Exit::Ok)
}

const COLUMNS: &[Column] = &[
    Column { title: "RUN", cell: |it| text(it, "/run_id") },
    Column { title: "WORKFLOW", cell: |it| text(it, "/workflow") },
    Column { title: "STEP", cell: |it| text(it, "/node") },
    Column { title: "REQUESTED (UTC)", cell: |it| time(it, "/requested_at") },
    Column { title: "EXPIRES (UTC)", cell: |it| time(it, "/expires_at") },
    Column { title: "STATUS", cell: |it| text(it, "/status") },
    Column { title: "BY", cell: |it| text(it, "/decided_by") },
];
