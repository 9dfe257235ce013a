//! `simulator`: plays schedules, says what was found and what was reached, and ends with one JSON line.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use simulator::campaign::Campaign;
use simulator::{Schedule, Simulator, kept, reach};

/// A schedule is a million small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
Plays schedules in a simulated world and checks what happened.

Usage: simulator sim [--schedules NUMBER] [--seed NUMBER] [--jobs NUMBER]
       simulator tell SEED | FILE        one schedule, and everything that happens in it
       simulator planted [--bug NAME] [--schedules NUMBER] [--jobs NUMBER]
";
/// What is played when nobody says how much.
const SCHEDULES: u64 = 33_000;
const SEED: u64 = 1;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["sim", rest @ ..] => Options::parse(rest).and_then(|options| sim(&options)),
        ["tell", which] => tell(which),
        ["planted", rest @ ..] => Options::parse(rest).and_then(|options| planted(&options)),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    seed: u64,
    schedules: Option<u64>,
    jobs: usize,
    bug: Option<String>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = Self { seed: SEED, schedules: None, jobs, bug: None };
        for pair in words.chunks(2) {
            let [option, value] = pair else { bail!("{} wants a value", pair[0]) };
            let number =
                || value.parse::<u64>().with_context(|| format!("{option} wants a number, not {value}"));
            match *option {
                "--seed" => options.seed = number()?,
                "--schedules" => options.schedules = Some(number()?),
                "--jobs" => options.jobs = usize::try_from(number()?.max(1))?,
                "--bug" => options.bug = Some((*value).to_owned()),
                _ => bail!("there is no option {option}"),
            }
        }
        Ok(options)
    }
}

/// Those that were kept first, then new ones.
fn sim(options: &Options) -> Result<bool> {
    let began = Instant::now();
    let schedules = options.schedules.unwrap_or(SCHEDULES);
    let simulator = Simulator::default();
    let relapses = kept::relapses(&simulator);
    for relapse in &relapses {
        eprintln!("{relapse}");
    }
    let summary = Campaign { seed: options.seed, schedules, jobs: options.jobs }.run();
    if let Some(first) = summary.failures.first() {
        eprintln!("{}", first.report(&simulator));
    }
    for failure in summary.failures.iter().skip(1) {
        eprintln!("seed {} as well: {}", failure.seed, failure.violations.join("; "));
    }
    let seconds = began.elapsed().as_secs_f64();
    for (what, times) in summary.reach.counts() {
        eprintln!("{times:>9}  {what}");
    }
    // A handful of schedules cannot reach everything; only a campaign must.
    let unreached = if schedules >= reach::CAMPAIGN_MIN { summary.reach.unreached() } else { Vec::new() };
    for (what, times) in &unreached {
        eprintln!("unreached: {what} happened {times} times; {} are wanted", reach::HITS_MIN);
    }
    let violations = relapses.len() + summary.failures.len();
    let names: Vec<&str> = unreached.iter().map(|(what, _)| *what).collect();
    let line = json!({
        "ticks": summary.ticks,
        "schedules": summary.schedules,
        "violations": violations,
        "unreached": names,
        "seed": options.seed,
        "seconds": (seconds * 10.0).round() / 10.0,
    });
    println!("{line}");
    Ok(violations == 0 && unreached.is_empty())
}

fn tell(which: &str) -> Result<bool> {
    let simulator = Simulator::default();
    let schedule: Schedule = match which.parse() {
        Ok(seed) => simulator.schedule(seed),
        Err(_) => {
            let text = std::fs::read_to_string(which).with_context(|| format!("reading {which}"))?;
            serde_json::from_str(&text).with_context(|| format!("{which} holds no schedule"))?
        }
    };
    let outcome = simulator.tell(&schedule);
    for line in &outcome.lines {
        println!("{line}");
    }
    let json = serde_json::to_string(&schedule).context("schedules are plain data")?;
    eprintln!("{json}");
    for violation in &outcome.violations {
        eprintln!("  - {violation}");
    }
    Ok(outcome.violations.is_empty())
}

#[cfg(feature = "planted")]
fn planted(options: &Options) -> Result<bool> {
    use simulator::planted::{Hunt, SCHEDULES_MAX};
    let schedules_max = options.schedules.unwrap_or(SCHEDULES_MAX);
    let hunt = Hunt { seed: options.seed, schedules_max, jobs: options.jobs };
    let results = hunt.run(options.bug.as_deref())?;
    eprintln!("{:<34} {:>8} {:>9}  what caught it", "bug", "seed", "schedules");
    for result in &results {
        match &result.caught {
            Some(caught) => {
                eprintln!("{:<34} {:>8} {:>9}  {}", result.bug, caught.seed, caught.schedules, caught.by)
            }
            None => eprintln!("{:<34} {:>8} {:>9}  NOT FOUND", result.bug, "-", schedules_max),
        }
    }
    let found = results.iter().filter(|result| result.caught.is_some()).count();
    println!("{}", json!({"planted": results.len(), "found": found}));
    Ok(found == results.len())
}

#[cfg(not(feature = "planted"))]
fn planted(_: &Options) -> Result<bool> {
    bail!("this simulator was built without the feature `planted`; `cargo xtask planted` builds it with")
}
