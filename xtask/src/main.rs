//! `cargo xtask WORD`: the few words a person, and CI, needs.

mod bench;
mod chaos;
mod fleet;
mod interrupt;
mod logs;
mod report;
mod schemathesis;
mod setup;
mod shell;
mod simulator;
mod test;
mod valkey;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::report::Report;

const HELP: &str = "\
The few words a person needs to work on Windlass. CI says the same ones.

Usage: cargo xtask WORD [OPTION]…

Words
  setup          Find what the other words need; install what is missing, among it cargo-nextest
  lint           rustfmt and clippy with warnings as errors; cargo-deny too when it is installed
  test           Everything: lint, all tests, the README's first command, schemathesis, Valkey
  examples       The README's first command, then the tests that run every example
  schemathesis   Send generated requests to a fresh `windlass dev`; a 5xx, or an answer that the
                 OpenAPI document does not promise, fails
  sim            Build the simulator fast, then play schedules: a fleet in one thread, with crashes and lost
                 messages by a seed; one JSON line on stdout
  planted        Switch on one planted bug after another: the simulator must find each of them
  chaos          A bad day by a seed, on real processes: kills, freezes, cuts, black holes, servers that die; one JSON
                 line on stdout
  valkey         The tests of the bus between processes, on a Valkey instead of a Redis
  fleet          Build, then start two APIs, three workers, a PostgreSQL and a Redis to play with, and show
                 their logs; Ctrl-C ends everything
  bench          Build for release, then measure one workload; one JSON line on stdout

Options
  test           --quick              without the simulator, schemathesis and Valkey
                 -- ARGUMENT…         handed to the test runner, such as a part of a test's name
  schemathesis   --cases NUMBER       at least so many requests (default 2000)
                 --seed NUMBER        repeat an earlier run
  sim            --schedules NUMBER   so many (default 33000); below 5000 nothing must be reached
                 --seed NUMBER        the first of them (default 1)
                 --jobs NUMBER        threads (default: one for each core)
                 tell SEED | FILE     instead: all that happens in one of them
  planted        --bug NAME           one instead of all
  chaos          --mode MODE          embedded or fleet (the default)
                 --minutes NUMBER     how long the day is (default 5)
                 --seed NUMBER        which day (default 1)
                 --bundle DIR         what is kept when a rule was broken (default target/chaos)
  fleet          --folder DIR         keep the database there; a temporary one otherwise
                 --ports FIRST        seven ports from here on; free ones otherwise
                 --program FILE       this windlass instead of building one
  bench          w1 … w6 | limit, then what the bench binary understands (see `cargo xtask bench --help`)

Examples
  cargo xtask test                    what CI runs; ends with a table of what ran
  cargo xtask test --quick -- tidy    only tests with `tidy` in their name, after lint
  cargo xtask fleet --folder target/fleet --ports 7070
  cargo xtask sim --schedules 1000000 --seed 7
  cargo xtask sim tell 4711
  cargo xtask chaos --mode fleet --minutes 30 --seed 7
  cargo xtask bench w1 --mode embedded
  cargo xtask bench w1 --mode fleet --rounds 3
  cargo xtask schemathesis --cases 200 --seed 7

Everything it makes lies under target/. It needs cargo and a C compiler; as root on Debian it installs
the rest by itself, otherwise it says what is missing and goes on with what it has.
Exit code: 0 when everything passed, 1 when something failed, 2 for a wrong word or option.
";

/// The exit code for a word or an option that nobody knows.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((word, rest)) = arguments.split_first() else {
        report::say(HELP);
        return ExitCode::from(EXIT_USAGE);
    };
    // `bench --help` belongs to the bench binary: it knows its own options.
    let asks_for_help = |text: &&str| matches!(*text, "-h" | "--help" | "help");
    if asks_for_help(word)
        || (*word != "bench" && rest.iter().take_while(|it| **it != "--").any(asks_for_help))
    {
        report::print(HELP);
        return ExitCode::SUCCESS;
    }
    match run(word, rest) {
        Ok(passed) if passed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) if error.is::<Usage>() => {
            report::say(&format!("{error}. `cargo xtask --help` lists the words."));
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            report::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that the word asked for passed.
fn run(word: &str, rest: &[&str]) -> Result<bool> {
    std::env::set_current_dir(shell::workspace_root()?)?;
    match word {
        "setup" => no_more(rest).and_then(|()| Report::of(setup::all)),
        "lint" => no_more(rest).and_then(|()| Report::of(test::lint)),
        "test" => {
            test::Options::parse(rest).and_then(|options| Report::of(|report| test::all(report, &options)))
        }
        "examples" => no_more(rest).and_then(|()| Report::of(test::examples)),
        "schemathesis" => schemathesis::Options::parse(rest)
            .and_then(|options| Report::of(|report| schemathesis::step(report, &options))),
        "valkey" => no_more(rest).and_then(|()| Report::of(valkey::step)),
        "fleet" => fleet::Options::parse(rest).and_then(|options| fleet::run(&options)),
        "sim" => match rest.split_first() {
            Some((&"tell", which)) => simulator::run("tell", which),
            _ => simulator::run("sim", rest),
        },
        "planted" => simulator::run("planted", rest),
        "chaos" => chaos::run(rest),
        "bench" => bench::run(rest),
        _ => bail!(Usage(format!("There is no word `{word}`"))),
    }
}

fn no_more(rest: &[&str]) -> Result<()> {
    match rest {
        [] => Ok(()),
        [first, ..] => bail!(Usage(format!("`{first}` is not an option of this word"))),
    }
}

/// The command line itself is wrong.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
