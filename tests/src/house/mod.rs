//! Starts the real `windlass dev`, and is unkind to it.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::{Client, PATIENCE, Sink, check};

/// How the house is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One process: door and hands together, on SQLite.
    Embedded,
}

/// Leases as the tests want them: short, so that a death is noticed soon.
const SETTINGS: &[(&str, &str)] = &[
    ("WINDLASS_SESSION_TTL", "2s"),
    ("WINDLASS_SESSION_RENEW", "500ms"),
    ("WINDLASS_SWEEP_INTERVAL", "200ms"),
    ("WINDLASS_STALE_AFTER", "4s"),
];
/// What the program prints on its output when it is there.
const READY_LINE: &str = "listening on ";
/// Runs that are read back and checked when a house closes; the newest ones.
const CHECKED_RUNS_MAX: usize = 1_000;
const CHECKS_AT_ONCE: usize = 4;
/// Lines of the server's own log that a failed story shows.
const LOG_LINES_SHOWN: usize = 60;

/// A Windlass of its own: processes, a database in a temporary folder, and a client to speak with it.
///
/// A story ends with [`House::close`]; a house that is dropped open fails its story.
pub struct House {
    client: Client,
    mode: Mode,
    folder: TempDir,
    settings: Vec<(String, String)>,
    process: Option<Child>,
    closed: bool,
}

impl Deref for House {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl House {
    pub async fn open(mode: Mode) -> Self {
        Self::open_with(mode, &[]).await
    }

    /// A house with settings of its own; they win over those that all tests share.
    pub async fn open_with(mode: Mode, settings: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut house = Self {
            client: Client::new(),
            mode,
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            settings: SETTINGS.iter().chain(settings).map(own).collect(),
            process: None,
            closed: false,
        };
        house.rise().await;
        house
    }

    /// A handle that other tasks can keep.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where the database and the server's own log lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("windlass.db")
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().and_then(Child::id).expect("the house is up")
    }

    // ---- life and death ------------------------------------------------------------------------

    /// Starts the processes and waits until they listen.
    pub async fn rise(&mut self) {
        assert!(self.process.is_none(), "the house is up already");
        match self.mode {
            Mode::Embedded => self.rise_embedded().await,
        }
    }

    async fn rise_embedded(&mut self) {
        let mut child = self.spawn();
        let stdout = child.stdout.take().expect("it was asked for");
        self.process = Some(child);
        let address = tokio::time::timeout(PATIENCE, read_address(stdout)).await.ok().flatten();
        let Some(address) = address else { panic!("the house does not come up:\n{}", self.server_log()) };
        self.client.moved_to(address);
    }

    /// Starts the house and kills it after a moment, wherever its start has come to by then.
    pub async fn rise_and_die(&mut self, after: Duration) {
        self.process = Some(self.spawn());
        tokio::time::sleep(after).await;
        self.kill().await;
    }

    fn spawn(&self) -> Child {
        let mut command = program();
        command.arg("dev").args(["--port", "0", "--egress-allow", "127.0.0.1/32"]);
        command.arg("--db").arg(self.database());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log_file());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true).spawn().expect("the program can be started")
    }

    fn log_file(&self) -> File {
        let path = self.folder.path().join("server.log");
        File::options().create(true).append(true).open(path).expect("the log file can be written")
    }

    /// The last lines of what the server said about itself.
    pub fn server_log(&self) -> String {
        let text = std::fs::read(self.folder.path().join("server.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// kill -9, and nothing is left of it.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().expect("the house is up");
        process.start_kill().expect("a child can be killed");
        process.wait().await.expect("a child can be waited for");
    }

    /// kill -9, and up again on the same database.
    pub async fn kill_and_rise(&mut self) {
        self.kill().await;
        self.rise().await;
    }

    /// SIGTERM; waits for the drain. Returns the exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal_process("TERM");
        let mut process = self.process.take().expect("the house is up");
        match tokio::time::timeout(PATIENCE, process.wait()).await {
            Ok(status) => status.expect("a child can be waited for").code(),
            Err(_) => panic!("the house does not stop:\n{}", self.server_log()),
        }
    }

    /// Holds the processes still, as a suspended laptop or a stalled machine would.
    pub fn freeze(&self) {
        self.signal_process("STOP");
    }

    pub fn thaw(&self) {
        self.signal_process("CONT");
    }

    fn signal_process(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.pid());
        let status = Command::new("/bin/sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}");
    }

    // ---- the end -------------------------------------------------------------------------------

    /// Checks every run, stops the house gracefully, and lets the doctor look at the database.
    pub async fn close(self) {
        self.close_with(&[]).await;
    }

    /// As [`Self::close`], and holds what arrived at the sinks against the logs.
    pub async fn close_with(mut self, sinks: &[&Sink]) {
        self.check(sinks).await;
        let code = self.stop().await;
        assert_eq!(code, Some(0), "the house did not stop in peace:\n{}", self.server_log());
        self.ask_the_doctor();
        self.closed = true;
    }

    /// # Panics
    /// With everything that is wrong with the newest runs.
    pub async fn check(&self, sinks: &[&Sink]) {
        let mut runs = self.all_runs().await;
        runs.truncate(CHECKED_RUNS_MAX);
        let checks = runs.iter().map(|run| check::run_over_http(&self.client, run, sinks));
        let found: Vec<Vec<String>> = iter(checks).buffer_unordered(CHECKS_AT_ONCE).collect().await;
        let found = found.concat();
        assert!(found.is_empty(), "the checker found:\n{}", found.join("\n"));
    }

    /// `windlass doctor` on the closed database.
    fn ask_the_doctor(&self) {
        let output =
            program().arg("doctor").arg("--db").arg(self.database()).output().expect("it can be started");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the doctor says:\n{said}");
    }

    /// Bytes of memory that the server has in use.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux tells");
        let line =
            status.lines().find(|line| line.starts_with("VmRSS:")).expect("a living process has memory");
        let kib: u64 =
            line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("VmRSS is a number");
        kib * 1024
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the server's log ----\n{}", self.server_log());
        } else {
            assert!(self.closed, "a story ends with house.close()");
        }
    }
}

/// The program that belongs to this test: `target/<profile>/windlass`.
pub fn program_path() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // target/debug/deps/stories-1234 → target/debug
    let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let program = folder.join("windlass");
    assert!(
        Path::new(&program).is_file(),
        "{} is missing: build it first with `cargo build -p windlass` (`cargo xtask test` does)",
        program.display()
    );
    program
}

/// The program with an environment that holds nothing of the tester's own.
pub fn program() -> Command {
    let mut command = Command::new(program_path());
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", std::env::temp_dir()).env("RUST_BACKTRACE", "1");
    command
}

/// Reads the output until the address stands there, then goes on reading so that the pipe never fills.
async fn read_address(stdout: tokio::process::ChildStdout) -> Option<String> {
    let mut lines = BufReader::new(stdout).lines();
    loop {
        let line = lines.next_line().await.ok()??;
        if let Some((_, rest)) = line.split_once(READY_LINE) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return rest.split_whitespace().next().map(str::to_owned);
        }
    }
}

/// Waits out a lease: whoever was frozen this long has lost what it held.
pub const LEASE_IS_OVER: Duration = Duration::from_millis(2_600);
