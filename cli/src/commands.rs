//! What can be asked of a run: pause, resume, cancel, approve, reject, retry, skip, signal.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::answers::verdict;
use crate::client::Client;
use crate::failure::{Exit, Failure, explain};
use crate::output::{self, Style, note, text};
use crate::runs::{self, Common};

#[derive(Subcommand, Debug)]
pub enum RunCommand {
    /// Let nothing new begin until somebody resumes the run
    Pause(Several),
    /// Let a paused run go on
    Resume(Several),
    /// End runs; steps in flight are stopped
    #[command(after_help = "\
Examples:
  windlass runs cancel ID --reason 'wrong customer'
  windlass runs list --workflow order --status waiting -o id | windlass runs cancel -")]
    Cancel {
        #[command(flatten)]
        several: Several,
        /// Why, for those who read the run later
        #[arg(long)]
        reason: Option<String>,
    },
    /// Approve what a step waits for
    #[command(after_help = "\
Examples:
  windlass runs approve ID                    the only approval that the run waits for
  windlass runs approve ID publish --comment 'looks right' --user ada --role editor
  windlass runs approve ID publish --form '{\"amount\": 12}'

Without --attempt, what is approved is what the run shows at this moment.")]
    Approve(Decision),
    /// Reject what a step waits for
    Reject(Decision),
    /// Try failed or interrupted steps again
    Retry {
        id: String,
        /// One step; all that need a person when none is named
        node: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Go on as if a step need not run
    Skip {
        id: String,
        node: String,
        #[command(flatten)]
        common: Common,
    },
    /// Send a signal that a step waits for, or will wait for
    #[command(after_help = "\
Examples:
  windlass runs signal ID paid
  windlass runs signal ID paid --payload '{\"amount\": 12}'")]
    Signal {
        id: String,
        name: String,
        /// What the signal carries; JSON when it can be read as JSON, and text otherwise
        #[arg(long, value_name = "JSON")]
        payload: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args, Debug)]
pub struct Several {
    /// Runs; `-` reads their ids from standard input
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub struct Decision {
    id: String,
    /// The step; may be left out when the run waits for one approval only
    node: Option<String>,
    /// The attempt that you looked at
    #[arg(long)]
    attempt: Option<u64>,
    /// Why, for those who read the run later
    #[arg(long)]
    comment: Option<String>,
    /// The form that the approval asks for
    #[arg(long, value_name = "JSON")]
    form: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub async fn command(command: RunCommand) -> Result<Exit> {
    match command {
        RunCommand::Pause(several) => each(several, "pause", json!({})).await,
        RunCommand::Resume(several) => each(several, "resume", json!({})).await,
        RunCommand::Cancel { several, reason } => {
            let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
            each(several, "cancel", body).await
        }
        RunCommand::Approve(decision) => decide(decision, "approve").await,
        RunCommand::Reject(decision) => decide(decision, "reject").await,
        RunCommand::Retry { id, node, common } => {
            let body = node.map_or_else(|| json!({}), |node| json!({ "node": node }));
            let receipt = common.server.client()?.command(&id, "retry", &body).await?;
            show(&common, &id, &receipt)
        }
        RunCommand::Skip { id, node, common } => {
            let receipt = common.server.client()?.command(&id, "skip", &json!({ "node": node })).await?;
            show(&common, &id, &receipt)
        }
        RunCommand::Signal { id, name, payload, common } => {
            let payload = payload
                .map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)))
                .unwrap_or_default();
            let receipt = common.server.client()?.signal(&id, &name, &payload).await?;
            show(&common, &id, &receipt)
        }
    }
}

/// One refusal keeps no other run from being told. The exit code is that of the first refusal.
async fn each(several: Several, command: &str, body: Value) -> Result<Exit> {
    let client = several.common.server.client()?;
    let ids = runs::ids(&several.ids)?;
    if let [id] = ids.as_slice() {
        let receipt = client.command(id, command, &body).await?;
        return show(&several.common, id, &receipt);
    }
    let mut first = Exit::Ok;
    for id in &ids {
        match client.command(id, command, &body).await {
            Ok(receipt) => {
                show(&several.common, id, &receipt)?;
            }
            Err(error) => {
                let (exit, text) = explain(&error);
                note(&format!("{} {id}: {text}", Style::stderr().red("error:")));
                if first == Exit::Ok {
                    first = exit;
                }
            }
        }
    }
    Ok(first)
}

fn show(common: &Common, id: &str, receipt: &Value) -> Result<Exit> {
    output::object(common.output.output, receipt, id, || {
        let reason = text(receipt, "/paused_reason");
        let reason = if reason.is_empty() { reason } else { format!(" ({reason})") };
        format!("{id}  {}{reason}", Style::stdout().status(&text(receipt, "/status")))
    })?;
    Ok(Exit::Ok)
}

async fn decide(decision: Decision, verb: &str) -> Result<Exit> {
    let client = decision.common.server.client()?;
    let form = decision.form.as_deref().map(serde_json::from_str::<Value>).transpose();
    let form = form.map_err(|error| Failure::usage(format!("--form is no JSON: {error}")))?;
    let body = match (&decision.node, decision.attempt) {
        (Some(node), Some(attempt)) => {
            verdict(node, &json!({ "attempt": attempt }), decision.comment.as_deref(), form.as_ref())
        }
        _ => {
            let (node, mut gate) = find_gate(&client, &decision).await?;
            if let Some(attempt) = decision.attempt {
                gate = json!({ "attempt": attempt });
            }
            verdict(&node, &gate, decision.comment.as_deref(), form.as_ref())
        }
    };
    let receipt = client.command(&decision.id, verb, &body).await?;
    show(&decision.common, &decision.id, &receipt)
}

/// The gate that the person means: of the step they named, or the only one there is.
async fn find_gate(client: &Client, decision: &Decision) -> Result<(String, Value)> {
    let run = client.get_run(&decision.id, None).await?;
    let steps = run.get("steps").and_then(Value::as_array).into_iter().flatten();
    let mut open: Vec<(String, Value)> = steps
        .filter_map(|step| Some((text(step, "/node"), step.pointer("/waiting_on/gate")?.clone())))
        .filter(|(node, _)| decision.node.as_ref().is_none_or(|named| named == node))
        .collect();
    match (open.len(), &decision.node) {
        (1, _) => Ok(open.remove(0)),
        (0, Some(node)) => {
            let status = text(&run, "/status");
            let problem = format!("step `{node}` of this run waits for no approval; the run is {status}");
            Err(Failure::new(Exit::Conflict, problem).into())
        }
        (0, None) => {
            let problem = format!("this run waits for no approval; it is {}", text(&run, "/status"));
            Err(Failure::new(Exit::Conflict, problem).into())
        }
        _ => {
            let nodes: Vec<String> = open.into_iter().map(|(node, _)| node).collect();
            let problem = format!("this run waits for several approvals: name one of {}", nodes.join(", "));
            Err(Failure::usage(problem).into())
        }
    }
}
