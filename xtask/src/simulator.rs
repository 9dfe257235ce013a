//! `sim` and `planted`: the simulator, built to be fast.

use anyhow::{Result, bail};

use crate::report::{Ending, Report, say};
use crate::shell;

/// More than a million ticks, in about two minutes of two cores.
const SCHEDULES_IN_CI: &str = "33000";

/// Runs the simulator with these words; its JSON line is all there is on stdout.
pub(crate) fn run(word: &str, arguments: &[&str]) -> Result<bool> {
    // The same build hunts planted bugs: without one switched on it does what any other build does.
    let build = ["build", "--profile", "sim", "--package", "simulator", "--features", "simulator/planted"];
    shell::run(shell::cargo(build))?;
    let binary = shell::target_folder()?.join("sim").join("simulator");
    say(&format!("$ simulator {word} {}", arguments.join(" ")));
    let status = shell::command(&binary.to_string_lossy(), [&[word][..], arguments].concat()).status()?;
    Ok(status.success())
}

/// What CI plays.
pub(crate) fn steps(report: &mut Report) {
    let passed = |passed: bool| if passed { Ok(Ending::Passed) } else { bail!("see above") };
    report.step("simulator", || run("sim", &["--schedules", SCHEDULES_IN_CI]).and_then(passed));
    report.step("planted bugs", || run("planted", &[]).and_then(passed));
}
