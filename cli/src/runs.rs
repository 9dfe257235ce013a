//! `windlass runs`: start runs, look at them, and tell them what to do.

use std::io::BufRead as _;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use windlass_boot::shutdown::Signals;
use windlass_model::time::parse_duration;

use crate::bulk::{self, BulkArgs};
use crate::client::{Client, ServerArgs};
use crate::commands::{self, RunCommand};
use crate::failure::{Exit, Failure};
use crate::follow::Follow;
use crate::inputs::{self, InputArgs};
use crate::output::{self, Column, Format, OutputArgs, text, time};
use crate::{result, show_run};

/// Rows that a list shows unless more are asked for.
const LIMIT_DEFAULT: usize = 50;
/// The longest wait that the API grants at once; longer ones are asked for again.
const WAIT_AT_ONCE_MAX: Duration = Duration::from_secs(60);

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

#[derive(Subcommand, Debug)]
pub enum RunsCommand {
    /// Start a run of a published workflow
    #[command(after_help = "\
Examples:
  windlass runs start order -i amount=12
  windlass runs start order@3 -f inputs.json --label customer=ada --wait
  id=$(windlass runs start order -o id) && windlass runs watch $id

With --wait the exit code says how the run ended: 0 completed, 1 failed or canceled, 124 not in time.")]
    Start(StartArgs),
    /// List runs, newest first
    #[command(after_help = "\
Examples:
  windlass runs list --status paused --status waiting
  windlass runs list --workflow order --label customer=ada -o json
  windlass runs list --status waiting -o id | windlass runs cancel -")]
    List(ListArgs),
    /// Show one run with each of its steps
    Get(GetArgs),
    /// Follow a run live until it ends
    #[command(after_help = "\
Ctrl-C stops watching; the run goes on. A broken connection is taken up again where it was.
Exit codes: 0 completed, 1 failed or canceled.")]
    Watch(WatchArgs),
    /// Print what happened in a run
    Events(EventsArgs),
    /// Say what a run waits for, and what would move it
    Explain {
        id: String,
        #[command(flatten)]
        common: Common,
    },
    #[command(flatten)]
    Command(RunCommand),
    /// Pause, resume, cancel or retry all runs that a filter finds
    #[command(after_help = "\
Examples:
  windlass runs bulk cancel --workflow order --label customer=ada --dry-run
  windlass runs bulk resume --status paused --text engine_interrupted

One that refuses keeps no other from being told; the exit code is 5 then.")]
    Bulk(BulkArgs),
}

#[derive(Args, Debug)]
pub struct Common {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Debug)]
pub struct StartArgs {
    /// The name of a published workflow
    #[arg(value_name = "NAME[@VERSION]")]
    workflow: String,
    #[command(flatten)]
    inputs: InputArgs,
    /// A label to find the run by; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[arg(long, value_enum)]
    priority: Option<Priority>,
    /// When the run starts: a time, or a span from now such as 2h
    // A time that has passed is refused as one, not as an argument that nobody knows.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    start_at: Option<String>,
    /// When the run must have ended: a time, or a span from now such as 2h
    #[arg(long, allow_hyphen_values = true)]
    deadline: Option<String>,
    /// Requests with the same key start one run, however often they are sent
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait until the run ends, at most this long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "3650d",
          value_parser = parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Priority {
    High,
    Normal,
    Low,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many at most
    #[arg(long, default_value_t = LIMIT_DEFAULT)]
    limit: usize,
    #[command(flatten)]
    common: Common,
}

/// Which runs are meant.
#[derive(Args, Debug)]
pub struct FilterArgs {
    /// Only runs of this status; may be given several times
    #[arg(long = "status", value_name = "STATUS")]
    statuses: Vec<String>,
    /// Only runs of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Only runs that steps of this run have started
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// Only runs with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Only runs created at this time or later
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Only runs created before this time
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    /// Only runs whose workflow, id, label or error contains this
    #[arg(long)]
    text: Option<String>,
}

impl FilterArgs {
    /// As the API spells them.
    pub fn parameters(&self) -> Result<Vec<(String, String)>> {
        let mut parameters: Vec<(String, String)> =
            self.statuses.iter().map(|status| ("status".to_owned(), status.clone())).collect();
        for (key, value) in inputs::labels(&self.labels)? {
            parameters.push(("label".to_owned(), format!("{key}:{}", value.as_str().unwrap_or_default())));
        }
        for (key, value) in [
            ("workflow", &self.workflow),
            ("parent", &self.parent),
            ("created_after", &self.created_after),
            ("created_before", &self.created_before),
            ("text", &self.text),
        ] {
            parameters.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        Ok(parameters)
    }
}

#[derive(Args, Debug)]
pub struct GetArgs {
    id: String,
    /// Wait until the run ends, at most this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub struct WatchArgs {
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub struct EventsArgs {
    id: String,
    /// Only events after this one
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u32,
    /// Go on with what happens from now, until the run ends
    #[arg(short = 'F', long)]
    follow: bool,
    #[command(flatten)]
    common: Common,
}

pub async fn runs(command: RunsCommand) -> Result<Exit> {
    match command {
        RunsCommand::Start(args) => start(args).await,
        RunsCommand::List(args) => list(args).await,
        RunsCommand::Get(args) => get(args).await,
        RunsCommand::Watch(args) => watch(args).await,
        RunsCommand::Events(args) => events(args).await,
        RunsCommand::Explain { id, common } => {
            let found = common.server.client()?.explain_run(&id).await?;
            output::object(common.output.output, &found, &id, || show_run::explanation(&found))?;
            Ok(Exit::Ok)
        }
        RunsCommand::Bulk(args) => bulk::bulk(args).await,
        RunsCommand::Command(command) => commands::command(command).await,
    }
}

async fn start(args: StartArgs) -> Result<Exit> {
    let mut body = json!({ "workflow": args.workflow, "inputs": args.inputs.read()? });
    let labels = inputs::labels(&args.labels)?;
    if !labels.is_empty() {
        body["labels"] = Value::Object(labels);
    }
    if let Some(priority) = args.priority {
        let name = priority.to_possible_value().expect("every priority has a name");
        body["priority"] = name.get_name().into();
    }
    if let Some(start_at) = args.start_at {
        body["start_at"] = start_at.into();
    }
    if let Some(deadline) = args.deadline {
        body["deadline"] = deadline.into();
    }
    let client = args.common.server.client()?;
    let run = client.create_run(&body, args.idempotency_key.as_deref()).await?;
    let id = text(&run, "/id");
    let (run, exit) = match args.wait {
        Some(wait) => wait_for(&client, &id, wait).await?,
        None => (run, Exit::Ok),
    };
    output::object(args.common.output.output, &run, &id, || show_run::summary(&run, None))?;
    Ok(exit)
}

async fn list(args: ListArgs) -> Result<Exit> {
    let items = args.common.server.client()?.list_runs(&args.filter.parameters()?, args.limit).await?;
    output::list(args.common.output.output, &items, |run| text(run, "/id"), RUN_COLUMNS)?;
    Ok(Exit::Ok)
}

const RUN_COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |run| text(run, "/id") },
    Column { title: "WORKFLOW", cell: show_run::workflow_name },
    Column { title: "STATUS", cell: |run| text(run, "/status") },
    Column { title: "REASON", cell: show_run::reason },
    Column { title: "CREATED (UTC)", cell: |run| time(run, "/created_at") },
    Column { title: "ENDED (UTC)", cell: |run| time(run, "/ended_at") },
];

async fn get(args: GetArgs) -> Result<Exit> {
    let client = args.common.server.client()?;
    let (run, exit) = match args.wait {
        Some(wait) => {
            let (run, exit) = wait_for(&client, &args.id, wait).await?;
            // Looking at a failed run is no failure; that it did not end in time is.
            (run, if exit == Exit::TimedOut { exit } else { Exit::Ok })
        }
        None => (client.get_run(&args.id, None).await?, Exit::Ok),
    };
    let format = args.common.output.output;
    let machine = match format {
        Format::Table => client.get_machine(&args.id).await?,
        _ => None,
    };
    output::object(format, &run, &args.id, || show_run::summary(&run, machine.as_ref()))?;
    Ok(exit)
}

/// Asks again and again until the run has ended or the time is over.
async fn wait_for(client: &Client, id: &str, wait: Duration) -> Result<(Value, Exit)> {
    let until = tokio::time::Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let run = client.get_run(id, Some(left.min(WAIT_AT_ONCE_MAX))).await?;
        if show_run::has_ended(&run) {
            let exit = result::exit_of(&run);
            return Ok((run, exit));
        }
        if left.is_zero() {
            return Ok((run, Exit::TimedOut));
        }
        // The answer came early because the run has come to need a person, who may be about to see to it.
        tokio::time::sleep(ASK_AGAIN_AFTER.min(left)).await;
    }
}

async fn watch(args: WatchArgs) -> Result<Exit> {
    let client = args.common.server.client()?;
    let run = client.get_run(&args.id, None).await?;
    let format = args.common.output.output;
    let how = crate::answers::HowToGoOn::OnServer(args.common.server.server.clone());
    let mut follow = Follow::new(client.clone(), &run, how.server_flag(), Signals::listen()?);
    follow.prints_events = format == Format::Jsonl;
    follow.follow_to_the_end().await?;
    let run = client.get_whole_run(&args.id).await?;
    result::show(&client, &run, format, &how, None).await
}

async fn events(args: EventsArgs) -> Result<Exit> {
    let client = args.common.server.client()?;
    let format = args.common.output.output;
    if args.follow {
        return follow_events(&client, &args, format).await;
    }
    let mut events = Vec::new();
    let mut after = args.after;
    loop {
        let page = client.list_events(&args.id, after).await?;
        let Some(last) = page.last() else { break };
        after = crate::watch::News::seq(last);
        events.extend(page);
    }
    output::list(format, &events, |event| text(event, "/seq"), EVENT_COLUMNS)?;
    Ok(Exit::Ok)
}

/// One line per event as it comes.
async fn follow_events(client: &Client, args: &EventsArgs, format: Format) -> Result<Exit> {
    if !matches!(format, Format::Table | Format::Jsonl) {
        return Err(Failure::usage("--follow prints a line per event: use -o jsonl, or no -o at all").into());
    }
    let mut news = client.watch_run(&args.id, args.after);
    while let Some(next) = news.recv().await {
        if let crate::watch::News::Event(envelope) = next? {
            match format {
                Format::Jsonl => output::data(&envelope.to_string())?,
                _ => output::data(&show_run::event_line(&envelope))?,
            }
        }
    }
    Ok(Exit::Ok)
}

const EVENT_COLUMNS: &[Column] = &[
    Column { title: "SEQ", cell: |event| text(event, "/seq") },
    Column { title: "AT (UTC)", cell: |event| show_run::precise_time(event, "/at") },
    Column { title: "EVENT", cell: |event| text(event, "/event/type") },
    Column { title: "NODE", cell: show_run::event_step },
    Column { title: "ATTEMPT", cell: |event| text(event, "/event/attempt") },
    Column { title: "BY", cell: |event| text(event, "/event/actor/id") },
    Column { title: "DETAILS", cell: show_run::event_details },
];

/// The ids on the command line; `-` reads them from standard input, one per line.
pub fn ids(given: &[String]) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for id in given {
        if id == "-" {
            for line in std::io::stdin().lock().lines() {
                ids.push(line?.trim().to_owned());
            }
        } else {
            ids.push(id.clone());
        }
    }
    ids.retain(|id| !id.is_empty());
    Ok(ids)
}
