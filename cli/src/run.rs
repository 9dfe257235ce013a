//! `windlass run`: one run to its end, each step live, from a file or by name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_boot::shutdown::Signals;
use windlass_boot::{Settings, telemetry};

use crate::answers::{Answers, HowToGoOn};
use crate::beside;
use crate::client::{Client, ServerArgs, settings_failure};
use crate::definitions::{self, Source};
use crate::embedded::{self, House};
use crate::failure::Exit;
use crate::follow::{Ctrl, Follow};
use crate::inputs::{self, InputArgs};
use crate::output::{Format, OutputArgs, text};
use crate::push;
use crate::result;

/// How long steps in flight may go on when a run is left that ends with its process.
const DRAIN_TIMEOUT: &str = "1s";

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  windlass run examples/release-notes/workflow.yaml --yes
  windlass run order.yaml -i amount=12 -i 'items=[\"a\",\"b\"]' -i customer=ada
  windlass run order.yaml -f inputs.json --artifacts out/ -o json
  windlass run nightly --server http://127.0.0.1:7070      a published workflow, on a server

A file runs inside this process, in a temporary database that is gone afterwards (--db keeps it). \
A name runs on the server. At an approval you are asked; --yes approves. When a step fails for good \
you may retry it, skip it, or cancel the run. Ctrl-C cancels the run; pressed again, it leaves at once.

Exit codes: 0 completed, 1 failed or canceled, 2 not started or waiting for somebody, 3 not found.")]
pub struct RunArgs {
    /// A definition (a file, or `-` for standard input), or the name of a published workflow
    #[arg(value_name = "FILE|NAME[@VERSION]")]
    target: String,
    #[command(flatten)]
    inputs: InputArgs,
    /// Approve whatever asks, without asking you
    #[arg(short, long)]
    yes: bool,
    /// Write the artifacts of the run into this folder, as NODE/NAME
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Keep the run in this database file instead of a temporary one
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    db: Option<PathBuf>,
    /// Private targets that http nodes may call: CIDRs or hosts, comma separated [env: WINDLASS_EGRESS_ALLOW]
    #[arg(long, value_name = "LIST", conflicts_with = "server")]
    egress_allow: Option<String>,
    /// A label of the run; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(args: RunArgs) -> Result<Exit> {
    let inputs = args.inputs.read()?;
    let mut body = json!({ "inputs": inputs });
    let labels = inputs::labels(&args.labels)?;
    if !labels.is_empty() {
        body["labels"] = Value::Object(labels);
    }
    if !definitions::looks_like_file(&args.target) {
        body["workflow"] = args.target.as_str().into();
        return on_server(args, None, body).await;
    }
    let source = Source::read(Path::new(&args.target))?;
    // A database of its own, made for this run, has nothing registered.
    let catalog = match (&args.server.server, &args.db) {
        (None, None) => embedded::catalog(),
        _ => embedded::catalog_without_registry(),
    };
    beside::called_by(&source, &catalog)?;
    body["spec"] = source.compile_or_explain(&catalog)?.document.spec;
    match args.server.server {
        Some(_) => on_server(args, Some(&source), body).await,
        None => in_this_process(args, &source, body).await,
    }
}

async fn on_server(args: RunArgs, source: Option<&Source>, body: Value) -> Result<Exit> {
    let client = args.server.client()?;
    if let Some(source) = source {
        push::push_called(&client, source, &[]).await?;
    }
    let run = client.create_run(&body, None).await?;
    let how = HowToGoOn::OnServer(args.server.server.clone());
    let signals = Signals::listen()?;
    to_its_end(&args, &client, &run, how, signals).await
}

/// Starts everything for this one run, and stops it all afterwards.
async fn in_this_process(args: RunArgs, source: &Source, body: Value) -> Result<Exit> {
    let folder = tempfile::Builder::new().prefix("windlass-run-").tempdir().context("no temporary folder")?;
    let file = args.db.clone().unwrap_or_else(|| folder.path().join("run.db"));
    let mut flags = vec![("database_url", format!("sqlite://{}", file.display()))];
    if args.db.is_none() {
        // Nobody will go on with what is in flight: there is nothing to drain for.
        flags.push(("drain_timeout", DRAIN_TIMEOUT.to_owned()));
    }
    flags.extend(args.egress_allow.iter().map(|list| ("egress_allow", list.clone())));
    let settings = Settings::load(flags).map_err(settings_failure)?;
    // The live view tells what happens; logs are for what should not.
    telemetry::init(&settings, "error")?;
    let signals = Signals::listen()?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no loopback port is free")?;
    let options = embedded::door_options(&settings);
    let house = House::start(&settings, options, listener, CancellationToken::new()).await?;
    let client = Client::new(&house.server, args.server.identity(&settings))?;
    let how = match &args.db {
        Some(file) => HowToGoOn::InFile { file: file.clone(), server: house.server.clone() },
        None => HowToGoOn::Gone { server: house.server.clone() },
    };
    let ending = async {
        push::push_called(&client, source, &[]).await?;
        let run = client.create_run(&body, None).await?;
        to_its_end(&args, &client, &run, how, signals).await
    };
    let ended = tokio::select! {
        ended = ending => ended,
        // Without its engine the run would be watched for ever.
        () = house.stopping() => Err(anyhow!("the engine stopped before the run had ended")),
    };
    match house.stop().await {
        // Why the house fell says more than that the run did not end.
        Err(error) if ended.is_err() => {
            Err(error.context(ended.err().map(|it| it.to_string()).unwrap_or_default()))
        }
        stopped => stopped.and(ended),
    }
}

async fn to_its_end(
    args: &RunArgs,
    client: &Client,
    run: &Value,
    how: HowToGoOn,
    signals: Signals,
) -> Result<Exit> {
    let id = text(run, "/id");
    // The answer to a create is narrow; the view wants to know the steps.
    let run = &client.get_run(&id, None).await?;
    let format = args.output.output;
    let answers = Answers::new(client.clone(), id.clone(), args.yes, how.clone());
    let mut follow = Follow::new(client.clone(), run, how.server_flag(), signals);
    follow.ctrl_c = Ctrl::CancelsRun;
    follow.prints_events = format == Format::Jsonl;
    follow.answers = Some(answers);
    if let Some(exit) = follow.follow_to_the_end().await? {
        return Ok(exit);
    }
    let run = client.get_whole_run(&id).await?;
    result::show(client, &run, format, &how, args.artifacts.as_deref()).await
}
