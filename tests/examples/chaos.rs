//! `cargo xtask chaos`: a bad day by a seed, and one JSON line about it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the line is all that it is run for")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use scenarios::chaos::{Harms, Options, Shared, Until, live_through};
use scenarios::{Mode, tell};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = match parse(&words) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}; it is --mode embedded|fleet --minutes N --seed S --bundle DIR");
            return ExitCode::from(2);
        }
    };
    let shared = Shared::default();
    let lived = catch_unwind(AssertUnwindSafe(|| tell(live_through(&options, &shared))));
    let violations = lived.err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        // The checker names one broken rule in each line, after one that says that it does.
        text.and_then(|it| it.strip_prefix("the checker found:\n")).map_or(1, |found| found.lines().count())
    });
    println!("{}", shared.now().line(&options, violations.unwrap_or(0)));
    if violations.is_none() {
        return ExitCode::SUCCESS;
    }
    eprintln!("what is left lies in {}", options.bundle.unwrap_or_default().display());
    ExitCode::FAILURE
}

fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        mode: Mode::Fleet,
        seed: 1,
        harms: Harms::All,
        until: Until::Over(Duration::from_secs(5 * 60)),
        bundle: Some(PathBuf::from("target/chaos")),
    };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} wants a value", pair[0])) };
        let number = || value.parse::<u64>().map_err(|_| format!("{value} is not a whole number"));
        match name.as_str() {
            "--mode" if value == "embedded" => options.mode = Mode::Embedded,
            "--mode" if value == "fleet" => options.mode = Mode::Fleet,
            "--minutes" => options.until = Until::Over(Duration::from_secs(number()? * 60)),
            "--seed" => options.seed = number()?,
            "--bundle" => options.bundle = Some(PathBuf::from(value)),
            _ => return Err(format!("`{name} {value}` is not known")),
        }
    }
    Ok(options)
}
