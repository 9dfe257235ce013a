//! `bench`: builds for release and measures one workload, or the database's own limit.

use anyhow::{Result, bail};

use crate::report::say;
use crate::{Usage, shell};

/// Runs the bench binary with the arguments as they came; its JSON line is all there is on stdout.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    if arguments.is_empty() {
        bail!(Usage("bench wants a workload: w1 to w6, or limit".into()));
    }
    shell::run(shell::cargo(["build", "--release", "--package", "windlass", "--package", "bench"]))?;
    let binary = shell::target_folder()?.join("release").join("bench");
    say(&format!("$ bench {}", arguments.join(" ")));
    let status = shell::command(&binary.to_string_lossy(), arguments).status()?;
    Ok(status.success())
}
