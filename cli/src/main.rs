//! `windlass`: the one binary. Parses the command line, does what it says, explains what went wrong.

mod allocator;
mod answers;
mod api;
mod approvals;
mod beside;
mod bulk;
mod callee;
mod client;
mod commands;
mod config;
mod definitions;
mod dev;
mod doctor;
mod embedded;
mod failure;
mod fleet;
mod follow;
mod healthcheck;
mod inputs;
mod live;
mod migrate;
mod output;
mod prompt;
mod push;
#[cfg(test)]
mod reference;
mod result;
mod run;
mod runs;
mod schedules;
mod show_run;
mod validate;
mod watch;
mod worker;
mod workflow;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use windlass_model::callee::CalleeKind;

use crate::failure::{Exit, Failure, explain};
use crate::output::{OutputArgs, Style, note};

/// Durable workflows from one binary
#[derive(Parser, Debug)]
#[command(
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    after_help = "\
First steps:
  windlass run examples/release-notes/workflow.yaml     run a definition to its end, here and now
  windlass dev                                          start a server on this machine
  windlass workflow push order.yaml                     publish a definition
  windlass runs start order -i amount=12                start a run of it
  windlass runs watch ID                                see it live

Exit codes: 0 ok, 1 run failed, 2 usage, 3 not found, 4 not allowed, 5 conflict, 124 not in time.
Results go to standard output, progress and problems to standard error. NO_COLOR turns colors off."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start a server on this machine: API, worker and documentation, on SQLite
    Dev(dev::DevArgs),
    /// Answer HTTP, as one of several processes on PostgreSQL and Redis
    Api(api::ApiArgs),
    /// Move runs, as one of several processes on PostgreSQL and Redis
    Worker(worker::WorkerArgs),
    /// Bring the schema of a database up to date
    Migrate(migrate::MigrateArgs),
    /// Run a definition to its end and show each step live
    Run(run::RunArgs),
    /// Check definitions, and show every problem where it stands
    Validate(validate::ValidateArgs),
    /// Draw a definition as Mermaid or DOT
    Graph(validate::GraphArgs),
    /// Print the JSON Schema of definitions, for editors
    Schema,
    /// Publish definitions and look at what is published
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Register tools that workflows call, and look at what is registered
    #[command(subcommand)]
    Tool(callee::CalleeCommand),
    /// Register agents that workflows call, and look at what is registered
    #[command(subcommand)]
    Agent(callee::CalleeCommand),
    /// Start runs, look at them, and tell them what to do
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Start runs at the times of a cron expression
    #[command(subcommand)]
    Schedules(schedules::SchedulesCommand),
    /// See what waits for people
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// Examine a database: every row against its log, and everything that must not be
    Doctor(doctor::DoctorArgs),
    /// Ask a server or a worker whether it is ready; the exit code is the answer
    Healthcheck(healthcheck::HealthcheckArgs),
    /// See which settings hold
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  windlass completion bash > ~/.local/share/bash-completion/completions/windlass
  windlass completion zsh > ~/.zfunc/_windlass
  windlass completion fish > ~/.config/fish/completions/windlass.fish")]
    Completion { shell: clap_complete::Shell },
    /// Print the version
    Version {
        #[command(flatten)]
        output: OutputArgs,
    },
}

fn main() -> ExitCode {
    allocator::set_up();
    let cli = Cli::parse();
    match start(cli.command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let (exit, text) = explain(&error);
            if exit != Exit::Ok {
                note(&format!("{} {text}", Style::stderr().red("error:")));
            }
            exit.into()
        }
    }
}

fn start(command: Command) -> Result<Exit> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err(Failure::new(Exit::Failed, "another TLS provider is installed already").into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start its threads")?;
    runtime.block_on(obey(command))
}

async fn obey(command: Command) -> Result<Exit> {
    match command {
        Command::Dev(args) => dev::dev(args).await,
        Command::Api(args) => api::api(args).await,
        Command::Worker(args) => worker::worker(args).await,
        Command::Migrate(args) => migrate::migrate(args).await,
        Command::Run(args) => run::run(args).await,
        Command::Validate(args) => validate::validate(args),
        Command::Graph(args) => validate::graph(args),
        Command::Schema => validate::schema(),
        Command::Workflow(command) => workflow::workflow(command).await,
        Command::Tool(command) => callee::callee(CalleeKind::Tool, command).await,
        Command::Agent(command) => callee::callee(CalleeKind::Agent, command).await,
        Command::Runs(command) => runs::runs(command).await,
        Command::Schedules(command) => schedules::schedules(command).await,
        Command::Approvals(command) => approvals::approvals(command).await,
        Command::Doctor(args) => doctor::doctor(args).await,
        Command::Healthcheck(args) => healthcheck::healthcheck(args).await,
        Command::Config(command) => config::config(command),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "windlass", &mut script);
            output::data(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Ok)
        }
        Command::Version { output } => {
            let version = env!("CARGO_PKG_VERSION");
            let value = json!({ "name": "windlass", "version": version });
            output::object(output.output, &value, version, || format!("windlass {version}"))?;
            Ok(Exit::Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense_to_its_parser() {
        Cli::command().debug_assert();
    }
}
