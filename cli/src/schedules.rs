//! `windlass schedules`: runs that start by themselves.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::client::ServerArgs;
use crate::failure::Exit;
use crate::inputs::{self, InputArgs};
use crate::output::{self, Column, OutputArgs, text, time};

/// Rows that a list shows unless more are asked for.
const LIMIT_DEFAULT: usize = 50;

#[derive(Subcommand, Debug)]
pub enum SchedulesCommand {
    /// Make a schedule, or change it
    #[command(after_help = "\
Examples:
  windlass schedules set nightly --workflow report --cron '30 2 * * *' --time-zone Europe/Berlin
  windlass schedules set stock --workflow stock --cron '*/5 * * * *' --overlap cancel-running -i shop=north")]
    Set(Box<SetArgs>),
    /// List schedules
    List {
        /// How many at most
        #[arg(long, default_value_t = LIMIT_DEFAULT)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Show one, with the times that come next
    Get(NameArgs),
    /// Let its times pass
    Pause(NameArgs),
    /// Let it go on after a pause
    Resume(NameArgs),
    /// Let its time come now
    Trigger(NameArgs),
    /// Delete; runs that it has started go on
    Delete {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Args, Debug)]
pub struct SetArgs {
    name: String,
    /// The published workflow that it starts
    #[arg(long, value_name = "NAME[@VERSION]")]
    workflow: String,
    /// When: minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// The zone whose clocks count, such as Europe/Berlin; UTC when left out
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    #[command(flatten)]
    inputs: InputArgs,
    /// A label of its runs; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[arg(long, value_parser = ["high", "normal", "low"])]
    priority: Option<String>,
    /// What becomes of a time that comes while the run before is still under way
    #[arg(long, value_enum)]
    overlap: Option<Overlap>,
    /// Make up for times that nobody was there for when they are no older than this, such as 1h
    #[arg(long, value_name = "DURATION")]
    catch_up: Option<String>,
    /// Do not start anything yet
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Overlap {
    Skip,
    Queue,
    CancelRunning,
    Allow,
}

impl Overlap {
    fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::CancelRunning => "cancel_running",
            Self::Allow => "allow",
        }
    }
}

#[derive(Args, Debug)]
pub struct NameArgs {
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub struct Common {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn schedules(command: SchedulesCommand) -> Result<Exit> {
    match command {
        SchedulesCommand::Set(args) => {
            let body = body(&args)?;
            let set = args.common.server.client()?.set_schedule(&body).await?;
            show(&args.common, &set)?;
        }
        SchedulesCommand::List { limit, common } => {
            let items = common.server.client()?.list_schedules(limit).await?;
            output::list(common.output.output, &items, |it| text(it, "/name"), COLUMNS)?;
        }
        SchedulesCommand::Get(NameArgs { name, common }) => {
            let found = common.server.client()?.get_schedule(&name).await?;
            show(&common, &found)?;
        }
        SchedulesCommand::Pause(args) => tell(&args, "pause").await?,
        SchedulesCommand::Resume(args) => tell(&args, "resume").await?,
        SchedulesCommand::Trigger(args) => tell(&args, "trigger").await?,
        SchedulesCommand::Delete { names, server } => {
            let client = server.client()?;
            for name in names {
                client.delete_schedule(&name).await?;
                output::data(&format!("deleted {name}"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

async fn tell(args: &NameArgs, verb: &str) -> Result<()> {
    let told = args.common.server.client()?.tell_schedule(&args.name, verb).await?;
    show(&args.common, &told)
}

fn show(common: &Common, schedule: &Value) -> Result<()> {
    output::object(common.output.output, schedule, &text(schedule, "/name"), || {
        output::yaml(schedule).unwrap_or_else(|_| schedule.to_string())
    })
}

fn body(args: &SetArgs) -> Result<Value> {
    let mut body = json!({
        "name": args.name,
        "workflow": args.workflow,
        "cron": args.cron,
        "inputs": args.inputs.read()?,
        "labels": Value::Object(inputs::labels(&args.labels)?),
        "paused": args.paused,
    });
    let overlap = args.overlap.map(|overlap| overlap.as_str().to_owned());
    let given = [
        ("time_zone", &args.time_zone),
        ("priority", &args.priority),
        ("overlap", &overlap),
        ("catch_up", &args.catch_up),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            body[key] = value.as_str().into();
        }
    }
    Ok(body)
}

const COLUMNS: &[Column] = &[
    Column { title: "NAME", cell: |it| text(it, "/name") },
    Column { title: "WORKFLOW", cell: |it| text(it, "/workflow") },
    Column { title: "CRON", cell: |it| text(it, "/cron") },
    Column { title: "ZONE", cell: |it| text(it, "/time_zone") },
    Column { title: "NEXT (UTC)", cell: |it| time(it, "/next_at") },
    Column { title: "LAST (UTC)", cell: |it| time(it, "/last_at") },
];
