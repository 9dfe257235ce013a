//! What can be asked of a run: pause, resume, cancel, approve, reject, retry, skip, signal, edit; and to do it again.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::answers::verdict;
use crate::client::Client;
use crate::failure::{Exit, Failure, explain};
use crate::inputs::{self, InputArgs};
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
    #[command(after_help = "\
Examples:
  windlass runs retry ID                       all that need a person
  windlass runs retry ID publish
  windlass runs retry ID 'each.do[1]'          one item of a map or a loop
  windlass runs retry ID --version latest      under a version that is mended")]
    Retry {
        id: String,
        /// One step, or one item as NODE[ITEM]; all that need a person when none is named
        node: Option<String>,
        /// Under this version of the workflow, a number or `latest`: as a new run in place of this one
        #[arg(long, conflicts_with = "node")]
        version: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Go on as if a step need not run
    #[command(after_help = "\
Examples:
  windlass runs skip ID publish
  windlass runs skip ID 'each.do[1]'           one item of a map or a loop")]
    Skip {
        id: String,
        /// The step, or one item as NODE[ITEM]
        node: String,
        #[command(flatten)]
        common: Common,
    },
    /// Set what steps of a paused run come to, or what its machine remembers
    #[command(after_help = "\
Examples:
  windlass runs edit ID --output-of 'draft={\"text\": \"Hello\"}'
  windlass runs edit ID --context tries=0 && windlass runs resume ID")]
    Edit {
        id: String,
        /// What a step comes to; JSON when it can be read as JSON, and text otherwise
        #[arg(long = "output-of", value_name = "NODE=JSON")]
        outputs: Vec<String>,
        /// A member of a machine's context
        #[arg(long, value_name = "KEY=JSON")]
        context: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Run again, from the beginning or from a step, as a new run
    #[command(after_help = "\
Examples:
  windlass runs rerun ID
  windlass runs rerun ID --from publish --dry-run      what would run again
  windlass runs rerun ID --from publish --version latest -i title=Hello")]
    Rerun(RerunArgs),
    /// Let a paused run go on under another version of its workflow
    #[command(after_help = "\
Examples:
  windlass runs move ID --version latest --dry-run
  windlass runs move ID --version 4")]
    Move {
        id: String,
        /// A number, or `latest`
        #[arg(long)]
        version: String,
        /// Say what would be kept, and change nothing
        #[arg(long)]
        dry_run: bool,
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
pub struct RerunArgs {
    id: String,
    /// The step to begin at; what ended well before it is reused
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Another version of the workflow: a number, or `latest`
    #[arg(long)]
    version: Option<String>,
    /// In place of the inputs that the run had; none keeps them
    #[command(flatten)]
    inputs: InputArgs,
    /// Say what would run again, and start nothing
    #[arg(long)]
    dry_run: bool,
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
        RunCommand::Retry { id, version: Some(version), common, .. } => {
            go_on_from(&common, &id, "retry", &json!({ "version": version_word(&version) })).await
        }
        RunCommand::Retry { id, node, common, .. } => {
            let client = common.server.client()?;
            let body = match node {
                Some(label) => step_called(&client, &id, &label).await?,
                None => json!({}),
            };
            let receipt = client.command(&id, "retry", &body).await?;
            show(&common, &id, &receipt)
        }
        RunCommand::Skip { id, node, common } => {
            let client = common.server.client()?;
            let body = step_called(&client, &id, &node).await?;
            let receipt = client.command(&id, "skip", &body).await?;
            show(&common, &id, &receipt)
        }
        RunCommand::Edit { id, outputs, context, common } => {
            let outputs = inputs::pairs(&outputs)?.into_iter();
            let steps: Map<_, _> =
                outputs.map(|(node, output)| (node, json!({ "output": output }))).collect();
            let body = json!({ "steps": steps, "context": inputs::pairs(&context)? });
            let receipt = common.server.client()?.command(&id, "state", &body).await?;
            show(&common, &id, &receipt)
        }
        RunCommand::Rerun(args) => rerun(args).await,
        RunCommand::Move { id, version, dry_run, common } => {
            let body = json!({ "version": version_word(&version), "dry_run": dry_run });
            go_on_from(&common, &id, "move", &body).await
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

/// A step as `explain` and `get` call it, `NODE`, `NODE[INDEX]` or `NODE[BRANCH]`, in the words of the API.
async fn step_called(client: &Client, id: &str, label: &str) -> Result<Value> {
    // No name of a node has a bracket.
    let Some((node, item)) = label.strip_suffix(']').and_then(|label| label.split_once('[')) else {
        return Ok(json!({ "node": label }));
    };
    if let Ok(index) = item.parse::<u32>() {
        return Ok(json!({ "node": node, "item": index }));
    }
    let run = client.get_run(id, None).await?;
    let mut steps = run.get("steps").and_then(Value::as_array).into_iter().flatten();
    match steps.find(|step| text(step, "/node") == node && text(step, "/branch") == item) {
        Some(step) => Ok(json!({ "node": node, "item": step["item"] })),
        None => Err(Failure::new(Exit::NotFound, format!("this run has no step `{label}`")).into()),
    }
}

async fn rerun(args: RerunArgs) -> Result<Exit> {
    let mut body = json!({ "dry_run": args.dry_run });
    if let Some(from) = args.from {
        body["from"] = from.into();
    }
    if let Some(version) = &args.version {
        body["version"] = version_word(version);
    }
    let inputs = args.inputs.read()?;
    if inputs.as_object().is_some_and(|inputs| !inputs.is_empty()) {
        body["inputs"] = inputs;
    }
    go_on_from(&args.common, &args.id, "rerun", &body).await
}

/// A number, or a word.
fn version_word(text: &str) -> Value {
    text.parse::<u32>().map_or_else(|_| text.into(), Value::from)
}

/// Has another run go on from this one, and says what that one has to do.
async fn go_on_from(common: &Common, id: &str, command: &str, body: &Value) -> Result<Exit> {
    let said = common.server.client()?.command(id, command, body).await?;
    let new = text(&said, "/run/id");
    output::object(common.output.output, &said, &new, || {
        let names = |pointer| match said.pointer(pointer).and_then(Value::as_array) {
            Some(nodes) if !nodes.is_empty() => {
                nodes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            _ => "nothing".to_owned(),
        };
        let head = if new.is_empty() { "a dry run: nothing was changed".to_owned() } else { new.clone() };
        format!("{head}\n  runs    {}\n  reused  {}", names("/runs"), names("/reused"))
    })?;
    Ok(Exit::Ok)
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
    let steps = || run.get("steps").and_then(Value::as_array).into_iter().flatten();
    let mut open: Vec<(String, Value)> = steps()
        .filter_map(|step| Some((text(step, "/node"), step.pointer("/waiting_on/gate")?.clone())))
        .filter(|(node, _)| decision.node.as_ref().is_none_or(|named| named == node))
        .collect();
    match (open.len(), &decision.node) {
        (1, _) => Ok(open.remove(0)),
        (0, Some(node)) if !steps().any(|step| text(step, "/node") == *node) => {
            let problem = format!("this run has no step `{node}`");
            Err(Failure::new(Exit::NotFound, problem).into())
        }
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
