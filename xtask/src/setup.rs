//! Finds what the other words need, and installs what is missing where that is possible.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::report::{Ending, Report, say};
use crate::shell;

/// Everything, the slow part included.
pub(crate) fn all(report: &mut Report) {
    report.step("rustfmt and clippy", components);
    report.step("C compiler", || package("cc", &["--version"], "gcc"));
    report.step("git", git);
    report.step("PostgreSQL and Redis", servers);
    report.step("python3 venv", || match python_venv() {
        Ok(()) => Ok(Ending::Passed),
        Err(error) => Ok(Ending::Skipped(format!("{error:#}; schemathesis and Valkey will be skipped"))),
    });
    report.step("node and npm", || match node() {
        Ok(ending) => Ok(ending),
        Err(error) => Ok(Ending::Skipped(format!("{error:#}; nothing will be compared with XState"))),
    });
    report.step("cargo-nextest", || {
        if has_nextest() {
            return Ok(Ending::Passed);
        }
        say("Building cargo-nextest takes some minutes, once.");
        shell::run(shell::cargo(["install", "cargo-nextest", "--locked"]))?;
        Ok(Ending::Passed)
    });
}

/// Without these `test` cannot begin. Quick when they are there.
pub(crate) fn required() -> Result<Ending> {
    components()?;
    git()?;
    servers()
}

fn components() -> Result<Ending> {
    let missing: Vec<&str> = [("rustfmt", "fmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(_, word)| shell::output(shell::cargo([*word, "--version"])).is_err())
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Ok(Ending::Passed);
    }
    if !shell::works("rustup", ["--version"]) {
        bail!("{} is missing, and there is no rustup to add it", missing.join(" and "));
    }
    let mut command = shell::command("rustup", ["component", "add"]);
    command.args(missing);
    shell::run(command)?;
    Ok(Ending::Passed)
}

/// The release-notes example reads a repository's log.
fn git() -> Result<Ending> {
    package("git", &["--version"], "git")
}

/// The programs only: tests start servers of their own, on free ports, and stop them.
pub(crate) fn servers() -> Result<Ending> {
    let initdb = "command -v initdb || ls /usr/lib/postgresql/*/bin/initdb";
    if !shell::works("sh", ["-c", initdb]) {
        // Debian's package would make and start a server of the machine's own.
        apt_install(&["postgresql-common"])?;
        shell::run(shell::command("sh", ["-c", NO_CLUSTER])).context("preparing for PostgreSQL")?;
        apt_install(&["postgresql"])?;
    }
    if !shell::works("redis-server", ["--version"]) {
        apt_install(&["redis-server"])?;
    }
    Ok(Ending::Passed)
}

const NO_CLUSTER: &str = "echo 'create_main_cluster = false' >> /etc/postgresql-common/createcluster.conf";

pub(crate) fn has_nextest() -> bool {
    shell::works("cargo-nextest", ["nextest", "--version"])
}

/// Makes sure that `python3 -m venv` works.
pub(crate) fn python_venv() -> Result<()> {
    // `ensurepip` is what Debian splits off: without it `venv` is there and cannot make one.
    let there = || shell::works("python3", ["-c", "import venv, ensurepip"]);
    if !there() {
        apt_install(&["python3", "python3-venv"])?;
    }
    if there() { Ok(()) } else { bail!("python3 cannot make virtual environments") }
}

/// Puts a package into a virtual environment of its own under `folder`, once. Says where the environment is.
pub(crate) fn python_package(folder: &Path, package: &str) -> Result<PathBuf> {
    let (venv, installed) = (folder.join("venv"), folder.join("installed"));
    if std::fs::read_to_string(&installed).is_ok_and(|it| it == package) {
        return Ok(venv);
    }
    python_venv()?;
    shell::run(shell::command("python3", [Path::new("-m"), Path::new("venv"), &venv]))?;
    let pip = venv.join("bin/pip").to_string_lossy().into_owned();
    shell::run(shell::command(&pip, ["install", "--quiet", "--disable-pip-version-check", package]))
        .with_context(|| format!("{package} could not be installed"))?;
    std::fs::write(installed, package)?;
    Ok(venv)
}

/// State machines are compared with XState, which the test itself puts below target/.
fn node() -> Result<Ending> {
    package("node", &["--version"], "nodejs")?;
    package("npm", &["--version"], "npm")
}

fn package(program: &str, arguments: &[&str], package: &str) -> Result<Ending> {
    if !shell::works(program, arguments) {
        apt_install(&[package])?;
    }
    Ok(Ending::Passed)
}

/// As root on Debian or Ubuntu; anywhere else an error that says what to do.
fn apt_install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() || !is_root() {
        bail!("missing; install it first: apt-get install {list}");
    }
    let mut command = shell::command("apt-get", ["install", "--yes", "--no-install-recommends"]);
    // RUNLEVEL keeps packages from starting the servers they bring.
    command.args(packages).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    shell::run(shell::command("apt-get", ["update", "--quiet"]))
        .and_then(|()| shell::run(command))
        .with_context(|| format!("installing {list}"))
}

fn is_root() -> bool {
    shell::output(shell::command("id", ["-u"])).is_ok_and(|id| id.trim() == "0")
}
