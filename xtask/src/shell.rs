//! Starts other programs: cargo, git, python, apt.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The folder of the workspace's Cargo.toml.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).context("xtask lies inside the workspace")
}

/// Where cargo builds to. Asked of cargo, because people move it.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let text = output(cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("reading what cargo metadata said")?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(folder))
}

/// The same cargo that runs this.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), arguments)
}

pub(crate) fn command<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs a program with its output on the terminal.
pub(crate) fn run(mut command: Command) -> Result<()> {
    crate::report::say(&format!("$ {}", words(&command)));
    let status = command.status().with_context(|| format!("starting {}", words(&command)))?;
    if !status.success() {
        bail!("{} ended with {status}", words(&command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to stdout.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", words(&command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", words(&command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program, shows what it writes line by line, and hands each line to `see`. Both streams are
/// read, since test runners choose either. Returns whether it succeeded.
pub(crate) fn watch(mut command: Command, mut see: impl FnMut(&str)) -> Result<bool> {
    crate::report::say(&format!("$ {}", words(&command)));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", words(&command)))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let (sender, lines) = std::sync::mpsc::channel();
    let readers = [
        std::thread::spawn({
            let sender = sender.clone();
            move || forward(stdout, &sender)
        }),
        std::thread::spawn(move || forward(stderr, &sender)),
    ];
    for line in lines {
        see(&line);
    }
    for reader in readers {
        let _ = reader.join();
    }
    Ok(child.wait()?.success())
}

fn forward(stream: impl std::io::Read, sender: &std::sync::mpsc::Sender<String>) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        let _ = writeln!(std::io::stderr(), "{line}");
        if sender.send(line).is_err() {
            return;
        }
    }
}

/// Whether a program can be started and says that it is well.
pub(crate) fn works<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> bool {
    let mut command = command(program, arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A command as a person would type it.
fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    std::iter::once(name)
        .chain(command.get_args().map(|it| it.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_sees_both_streams_and_the_exit_code() {
        let mut lines = Vec::new();
        let passed = watch(command("sh", ["-c", "echo out; echo err >&2; exit 3"]), |line| {
            lines.push(line.to_owned())
        });
        lines.sort();
        assert_eq!((passed.unwrap(), lines), (false, vec!["err".to_owned(), "out".to_owned()]));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let error = run(command("windlass-no-such-program", ["--version"])).unwrap_err();
        assert!(format!("{error:#}").contains("windlass-no-such-program"), "{error:#}");
    }
}
