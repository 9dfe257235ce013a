//! `lint`, `test` and `examples`: what must pass before anything is merged.

use anyhow::{Result, bail};

use crate::report::{Ending, Report, say};
use crate::{Usage, schemathesis, setup, shell, simulator, valkey};

/// The README's first command, word for word.
const FIRST_COMMAND: &[&str] = &["run", "--", "run", "examples/release-notes/workflow.yaml", "--yes"];

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    quick: bool,
    /// For the test runner.
    runner: Vec<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--quick" => options.quick = true,
                "--" => options.runner = rest.by_ref().map(|it| (*it).to_owned()).collect(),
                other => bail!(Usage(format!("`{other}` is not an option of test"))),
            }
        }
        Ok(options)
    }
}

/// Lint, every test, the README's first command, the simulator, schemathesis, Valkey.
pub(crate) fn all(report: &mut Report, options: &Options) {
    if !report.step("what tests need", setup::required) {
        return;
    }
    lint(report);
    if !report.step("build", || {
        shell::run(shell::cargo(["build", "--workspace", "--bins"])).map(|()| Ending::Passed)
    }) {
        return;
    }
    report.step("tests", || tests(&["--workspace"], &options.runner, &[]));
    report.step("the README's first command", first_command);
    if options.quick {
        report.step("simulator", || Ok(Ending::Skipped("--quick".into())));
        report.step("schemathesis", || Ok(Ending::Skipped("--quick".into())));
        report.step("Valkey", || Ok(Ending::Skipped("--quick".into())));
    } else {
        simulator::steps(report);
        schemathesis::step(report, &schemathesis::Options::default());
        valkey::step(report);
    }
}

pub(crate) fn lint(report: &mut Report) {
    report.step("rustfmt", || shell::run(shell::cargo(["fmt", "--all", "--check"])).map(|()| Ending::Passed));
    report.step("clippy", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
        shell::run(shell::cargo(arguments)).map(|()| Ending::Passed)
    });
    report.step("cargo-deny", || {
        if !shell::works("cargo-deny", ["--version"]) {
            // What matters most of deny.toml is also a test: tests/tests/tidy.rs.
            return Ok(Ending::Skipped("not installed; `cargo install cargo-deny --locked` adds it".into()));
        }
        shell::run(shell::cargo(["deny", "check", "bans", "licenses", "sources"])).map(|()| Ending::Passed)
    });
}

pub(crate) fn examples(report: &mut Report) {
    report.step("the README's first command", first_command);
    report.step("every example", || tests(&["--package", "scenarios", "--test", "examples"], &[], &[]));
}

fn first_command() -> Result<Ending> {
    shell::run(shell::cargo(FIRST_COMMAND)).map(|()| Ending::Passed)
}

/// Runs tests by cargo-nextest where it is installed, by `cargo test` elsewhere.
pub(crate) fn tests(which: &[&str], runner: &[String], environment: &[(&str, &str)]) -> Result<Ending> {
    let nextest = setup::has_nextest();
    let mut command = if nextest {
        let mut command = shell::cargo(["nextest", "run", "--no-fail-fast"]);
        command.args(which).args(runner);
        command
    } else {
        say("cargo-nextest is not installed (`cargo xtask setup` builds it): plain `cargo test` instead.");
        let mut command = shell::cargo(["test", "--no-fail-fast"]);
        command.args(which).arg("--").args(runner);
        command
    };
    command.envs(environment.iter().copied());
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut tally = Tally::default();
    let passed = shell::watch(command, |line| match nextest {
        true => tally.read_nextest(&plain(line)),
        false => tally.read_cargo_test(&plain(line)),
    })?;
    match passed {
        true if tally.passed == 0 => bail!("no test ran"),
        true => Ok(Ending::PassedWith(tally.text())),
        false => bail!("{}", tally.text()),
    }
}

/// What a test runner said about itself.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
    failures: Vec<String>,
}

/// More names than this in the closing table help nobody: the runner has listed them all above.
const FAILURES_NAMED_MAX: usize = 10;

impl Tally {
    /// nextest says it all once, at the end. It also shows what a failed test printed, which looks like
    /// what `cargo test` says.
    fn read_nextest(&mut self, line: &str) {
        if let Some((_, counts)) =
            line.trim().strip_prefix("Summary [").and_then(|it| it.split_once(" run: "))
        {
            // `Summary [ 1.2s] 9 tests run: 8 passed (1 slow), 1 failed, 2 skipped`
            self.add(counts.split(',').map(str::trim));
        } else if let Some(name) = failure_in_nextest(line) {
            self.fail(name);
        }
    }

    /// `cargo test` sums up each binary.
    fn read_cargo_test(&mut self, line: &str) {
        let counts = line.strip_prefix("test result: ").and_then(|it| it.split_once(". "));
        if let Some((_, counts)) = counts {
            // `test result: ok. 8 passed; 0 failed; 1 ignored; 0 measured; …`
            self.add(counts.split(';').map(str::trim));
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.fail(name);
        }
    }

    fn fail(&mut self, name: &str) {
        if !self.failures.iter().any(|it| it == name) {
            self.failures.push(name.to_owned());
        }
    }

    fn add<'a>(&mut self, counts: impl Iterator<Item = &'a str>) {
        for count in counts {
            let mut words = count.split_whitespace();
            let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<u32>), words.next()) else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" | "timed" => self.failed += number,
                "skipped" | "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        for name in self.failures.iter().take(FAILURES_NAMED_MAX) {
            text.push_str("\n                    failed: ");
            text.push_str(name);
        }
        text
    }
}

/// The test of `FAIL [   0.011s] (3/9) scenarios::tidy a_name`.
fn failure_in_nextest(line: &str) -> Option<&str> {
    let (verdict, rest) = line.split_once('[')?;
    if !matches!(verdict.trim(), "FAIL" | "TIMEOUT" | "ABORT" | "SIGABRT" | "SIGSEGV" | "SIGKILL") {
        return None;
    }
    let rest = rest.split_once(']')?.1.trim();
    Some(if rest.starts_with('(') { rest.split_once(')')?.1.trim() } else { rest })
}

/// A line without terminal colours.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        text.push_str(before);
        rest = after.split_once('m').map_or("", |(_, it)| it);
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &str, read: fn(&mut Tally, &str)) -> Tally {
        let mut tally = Tally::default();
        lines.lines().for_each(|line| read(&mut tally, &plain(line)));
        tally
    }

    #[test]
    fn the_tally_reads_what_nextest_says_and_not_what_failed_tests_print() {
        let seen = tally(
            "\u{1b}[31;1m        FAIL\u{1b}[0m [   0.011s] (2/9) scenarios::tidy links_resolve\n\
             \x20   test links_resolve ... FAILED\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 15 filtered out\n\
             \u{1b}[1m     Summary\u{1b}[0m [   1.234s] 9 tests run: 7 passed (1 slow), 1 failed, 1 timed out, 2 skipped\n\
             \u{1b}[31;1m        FAIL\u{1b}[0m [   0.011s] (2/9) scenarios::tidy links_resolve",
            Tally::read_nextest,
        );
        let failures = vec!["scenarios::tidy links_resolve".to_owned()];
        assert_eq!(seen, Tally { passed: 7, failed: 2, skipped: 2, failures });
    }

    #[test]
    fn the_tally_adds_up_what_cargo_test_says() {
        let seen = tally(
            "test a ... ok\ntest b ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            Tally::read_cargo_test,
        );
        assert_eq!(seen, Tally { passed: 5, failed: 1, skipped: 3, failures: vec!["b".into()] });
    }

    #[test]
    fn options_after_two_dashes_go_to_the_test_runner() {
        let options = Options::parse(&["--quick", "--", "tidy", "--quick"]).unwrap();
        assert_eq!(options, Options { quick: true, runner: vec!["tidy".into(), "--quick".into()] });
        assert!(Options::parse(&["--qick"]).unwrap_err().is::<Usage>());
    }

    #[test]
    fn the_first_command_is_the_one_the_readme_shows() {
        let readme = std::fs::read_to_string(shell::workspace_root().unwrap().join("README.md")).unwrap();
        assert!(readme.contains(&format!("cargo {}", FIRST_COMMAND.join(" "))));
    }
}
