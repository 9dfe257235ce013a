//! The built program, and an environment that holds nothing of the tester's own.

use std::path::PathBuf;
use std::process::Command;

/// The program that belongs to this test: `target/<profile>/windlass`.
pub fn program_path() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // target/debug/deps/stories-1234 → target/debug
    let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let program = folder.join("windlass");
    assert!(
        program.is_file(),
        "{} is missing: build it first with `cargo build -p windlass` (`cargo xtask test` does)",
        program.display()
    );
    program
}

/// The program with an environment that holds nothing of the tester's own.
pub fn program() -> Command {
    with_bare_environment(Command::new(program_path()))
}

/// As [`program`]; a file that may not grow is an error to it, as it is on a full disk, where a signal would end it.
pub(super) fn program_that_outlives_a_full_disk() -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#]).arg(program_path());
    with_bare_environment(command)
}

fn with_bare_environment(mut command: Command) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", std::env::temp_dir()).env("RUST_BACKTRACE", "1");
    command
}
