//! Runs steps one after another, times them, and ends with a table of how each of them went.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How a step ended when it did not fail.
pub(crate) enum Ending {
    Passed,
    /// Passed, with something worth a place in the table.
    PassedWith(String),
    /// Did not run, and why.
    Skipped(String),
}

/// What ran so far.
pub(crate) struct Report {
    lines: Vec<Line>,
    began: Instant,
}

struct Line {
    name: &'static str,
    took: Duration,
    verdict: Verdict,
    note: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Failed,
    Skipped,
}

impl Report {
    /// Runs `steps`, prints the table, and says whether no step failed.
    pub(crate) fn of(steps: impl FnOnce(&mut Report)) -> Result<bool> {
        let mut report = Self { lines: Vec::new(), began: Instant::now() };
        steps(&mut report);
        report.print_table();
        Ok(report.passed())
    }

    /// Runs one step. A failure does not stop the steps after it: one run of CI should tell all it can.
    pub(crate) fn step(&mut self, name: &'static str, deed: impl FnOnce() -> Result<Ending>) -> bool {
        say(&format!("\n── {name} ──"));
        let began = Instant::now();
        let (verdict, note) = match deed() {
            Ok(Ending::Passed) => (Verdict::Ok, String::new()),
            Ok(Ending::PassedWith(note)) => (Verdict::Ok, note),
            Ok(Ending::Skipped(why)) => (Verdict::Skipped, why),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        let line = Line { name, took: began.elapsed(), verdict, note };
        say(&line.text());
        self.lines.push(line);
        verdict != Verdict::Failed
    }

    fn passed(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|line| line.verdict == verdict).count()
    }

    fn print_table(&self) {
        say("\n── what ran ──");
        for line in &self.lines {
            say(&line.text());
        }
        let skipped = match self.count(Verdict::Skipped) {
            0 => String::new(),
            count => format!(", {count} skipped"),
        };
        let total = time(self.began.elapsed());
        match self.count(Verdict::Failed) {
            0 => say(&format!("Everything passed in {total}{skipped}.")),
            count => say(&format!("{count} of {} FAILED in {total}{skipped}.", self.lines.len())),
        }
    }
}

impl Line {
    fn text(&self) -> String {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        format!("{word:<8} {:>9}  {:<28} {}", time(self.took), self.name, self.note).trim_end().to_owned()
    }
}

fn time(span: Duration) -> String {
    match span.as_secs() {
        0..60 => format!("{:.1} s", span.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// For people, on stderr: stdout belongs to data.
#[expect(clippy::print_stderr, reason = "xtask talks to the person at the terminal")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Data, and help that was asked for.
#[expect(clippy::print_stdout, reason = "xtask talks to the person at the terminal")]
pub(crate) fn print(text: &str) {
    print!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_whole_and_the_steps_after_it_still_run() {
        let mut seen = Vec::new();
        let passed = Report::of(|report| {
            assert!(!report.step("first", || anyhow::bail!("no")));
            assert!(report.step("second", || {
                seen.push("second");
                Ok(Ending::Passed)
            }));
        });
        assert!(!passed.unwrap());
        assert_eq!(seen, ["second"]);
    }

    #[test]
    fn a_skipped_step_does_not_fail_the_whole() {
        let passed = Report::of(|report| {
            report.step("python", || Ok(Ending::Skipped("there is no python here".into())));
        });
        assert!(passed.unwrap());
    }

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(time(Duration::from_millis(4_250)), "4.2 s");
        assert_eq!(time(Duration::from_secs(125)), "2 min 05 s");
    }
}
