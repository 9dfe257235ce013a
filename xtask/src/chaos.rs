//! `chaos`: a bad day by a seed, on real processes.

use anyhow::Result;

use crate::report::say;
use crate::shell;

/// Runs it with these words; its JSON line is all there is on stdout.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    shell::run(shell::cargo(["build", "--package", "windlass"]))?;
    shell::run(shell::cargo(["build", "--package", "scenarios", "--example", "chaos"]))?;
    let binary = shell::target_folder()?.join("debug").join("examples").join("chaos");
    say(&format!("$ chaos {}", arguments.join(" ")));
    let status = shell::command(&binary.to_string_lossy(), arguments).status()?;
    Ok(status.success())
}
