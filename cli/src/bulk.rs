//! `windlass runs bulk`: one command for all runs that a filter finds.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::failure::{Exit, Failure};
use crate::output::{self, Column, note, text};
use crate::runs::{Common, FilterArgs};

#[derive(Args, Debug)]
pub struct BulkArgs {
    #[arg(value_enum)]
    action: Action,
    #[command(flatten)]
    filter: FilterArgs,
    /// All runs, where no filter is given
    #[arg(long)]
    all: bool,
    /// Why, for those who read the runs later; with `cancel` only
    #[arg(long)]
    reason: Option<String>,
    /// Say what would become of each run, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    Pause,
    Resume,
    Cancel,
    Retry,
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |item| text(item, "/run_id") },
    Column { title: "OUTCOME", cell: |item| text(item, "/outcome") },
    Column { title: "STATUS", cell: |item| text(item, "/status") },
    Column { title: "WHY", cell: |item| text(item, "/code") },
];

pub async fn bulk(args: BulkArgs) -> Result<Exit> {
    let filter = filter(&args.filter)?;
    if filter.is_empty() != args.all {
        let why = "say which runs are meant: by a filter such as `--status paused`, or `--all` of them";
        return Err(Failure::new(Exit::Usage, why).into());
    }
    let client = args.common.server.client()?;
    let action = args.action.to_possible_value().map(|value| value.get_name().to_owned());
    let mut body = json!({ "action": action, "filter": filter, "dry_run": args.dry_run });
    if let Some(reason) = &args.reason {
        body["reason"] = json!(reason);
    }
    let mut items = Vec::new();
    loop {
        let mut answer = client.bulk(&body).await?;
        if let Some(Value::Array(page)) = answer.get_mut("items").map(Value::take) {
            items.extend(page);
        }
        match answer["next_cursor"].take() {
            Value::Null => break,
            cursor => body["cursor"] = cursor,
        }
    }
    let refused = items.iter().filter(|item| item["outcome"] == "refused").count();
    output::list(args.common.output.output, &items, |item| text(item, "/run_id"), COLUMNS)?;
    let would = if args.dry_run { " (a dry run: nothing was changed)" } else { "" };
    note(&format!("{} told, {refused} refused{would}", items.len() - refused));
    Ok(if refused == 0 { Exit::Ok } else { Exit::Conflict })
}

/// Parameters that may be repeated are lists in a body.
fn filter(args: &FilterArgs) -> Result<Map<String, Value>> {
    let mut filter = Map::new();
    for (name, value) in args.parameters()? {
        match filter.entry(&name).or_insert_with(|| if is_many(&name) { json!([]) } else { Value::Null }) {
            Value::Array(values) => values.push(value.into()),
            one => *one = value.into(),
        }
    }
    Ok(filter)
}

fn is_many(name: &str) -> bool {
    ["status", "label"].contains(&name)
}
