//! Measures the whole house over HTTP: starts the release program as processes of their own, drives one workload,
//! and prints one JSON line.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal: the result on stdout"
)]

mod connection;
mod house;
mod limit;
mod measure;
mod meter;
mod program;
mod report;
mod sink;
mod w1;
mod w2;
mod w3;
mod w4;
mod w5;
mod w6;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use report::Report;

/// Runs a workload against a fresh house and prints one line of JSON.
#[derive(Parser)]
#[command(name = "bench", after_help = "Build first: cargo build --release -p windlass -p bench")]
struct Arguments {
    workload: Workload,
    /// How the house is built.
    #[arg(long, default_value = "embedded")]
    mode: Mode,
    /// Fresh houses to measure; the line holds the medians.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Runs to measure, instead of the workload's own number.
    #[arg(long)]
    runs: Option<usize>,
    /// Steps of each run, instead of the workload's own number.
    #[arg(long)]
    steps: Option<usize>,
    /// Connections that create runs at the same time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// API processes of a fleet. One, because they all share this machine's cores with the database and the load
    /// generator: more show what scaling costs, not what it brings.
    #[arg(long, default_value_t = 1)]
    apis: usize,
    /// Worker processes of a fleet. One, for the same reason.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Leave out the database's own limit, which is taken after each round to compare with.
    #[arg(long)]
    no_limit: bool,
    /// Where the database lies; a temporary folder unless given.
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// 2,000 runs of 5 serial steps, created as fast as the house takes them
    W1,
    /// One run of 10 steps at a time, 50 times
    W2,
    /// One run of 200 parallel steps and one that joins them, 20 times
    W3,
    /// 10,000 runs that wait for an approval: memory, disk, idle CPU, and resuming one
    W4,
    /// A worker is killed in the middle of 500 runs and restarted; in a fleet also: one of two dies for good
    W5,
    /// Growth: one run of 1,000 steps, and the throughput beside 20,000 finished runs
    W6,
    /// What the database alone does with the writes of a step
    Limit,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One process on SQLite
    Embedded,
    /// API and worker processes over a PostgreSQL and a Redis of their own
    Fleet,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Fleet => "fleet",
        }
    }
}

/// What a workload needs to know.
#[derive(Clone)]
struct Plan {
    mode: Mode,
    runs: Option<usize>,
    steps: Option<usize>,
    connections: usize,
    apis: usize,
    workers: usize,
    with_limit: bool,
    folder: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let plan = Plan {
        mode: arguments.mode,
        runs: arguments.runs,
        steps: arguments.steps,
        connections: arguments.connections.max(1),
        apis: arguments.apis.max(1),
        workers: arguments.workers.max(1),
        with_limit: !arguments.no_limit,
        folder: arguments.folder.unwrap_or_else(std::env::temp_dir),
    };
    // One thread: what the driver takes, the server lacks.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = Vec::new();
    for round in 1..=arguments.rounds.max(1) {
        let mut report: Report = runtime.block_on(async {
            match arguments.workload {
                Workload::W1 => w1::measure(&plan).await,
                Workload::W2 => w2::measure(&plan).await,
                Workload::W3 => w3::measure(&plan).await,
                Workload::W4 => w4::measure(&plan).await,
                Workload::W5 => w5::measure(&plan).await,
                Workload::W6 => w6::measure(&plan).await,
                Workload::Limit => limit::measure(&plan),
            }
        })?;
        if plan.with_limit {
            limit::compare(arguments.workload, &plan, &mut report)?;
        }
        if arguments.rounds > 1 {
            eprintln!("round {round}: {}", report.line());
        }
        rounds.push(report);
    }
    println!("{}", Report::median(&rounds).line());
    Ok(())
}
