//! A PostgreSQL server of one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::process::{self, Process};
use crate::{SharedPostgres, free_port, run_sql};

/// After a kill, its children need a moment to let go of the shared memory.
const RESTART_MAX: Duration = Duration::from_secs(20);

/// A server with fsync on. Stopped and removed when dropped.
pub struct Postgres {
    process: Process,
    installation: Installation,
    port: u16,
}

impl Postgres {
    /// # Panics
    /// When PostgreSQL is not installed, with the command that installs it.
    pub fn start() -> Self {
        Self::start_at(free_port())
    }

    /// A server on a port that was chosen.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_at(port: u16) -> Self {
        Self::start_in(Process::named("postgres"), port)
    }

    /// A server whose files lie below a folder on the disk in question, and are removed with it.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_below(parent: &Path) -> Self {
        Self::start_in(Process::below(parent, "postgres"), free_port())
    }

    /// A server on a port that was chosen, whose data lie in a folder and stay there.
    ///
    /// # Panics
    /// As [`Postgres::start`], and when the folder cannot be used.
    pub fn start_keeping(folder: &Path, port: u16) -> Self {
        std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        // What an earlier server said is nobody's news.
        let _ = std::fs::remove_file(folder.join("log"));
        Self::start_in(Process::keeping(folder.to_path_buf()), port)
    }

    fn start_in(process: Process, port: u16) -> Self {
        let installation = Installation::find();
        if !process.folder.join("data").exists() {
            installation.prepare(&process.folder);
        }
        let mut server = Self { process, installation, port };
        if let Err(problem) = server.run() {
            panic!("PostgreSQL: {problem}");
        }
        server
    }

    /// A server that all tests of this machine share.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn shared() -> &'static SharedPostgres {
        SharedPostgres::join()
    }

    /// Of the database `postgres`, for its superuser, over TCP.
    pub fn url(&self) -> String {
        url(self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server has said so far lies there.
    pub fn log(&self) -> PathBuf {
        self.process.log()
    }

    /// The postmaster and its children, for whoever wants to know what they cost.
    pub fn process_ids(&self) -> Vec<u32> {
        self.process.ids()
    }

    /// A program of the same installation, such as `pgbench`, that is told how to reach this server.
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.installation.client(program);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string());
        command.env("PGUSER", "windlass").env("PGDATABASE", "postgres").stdin(Stdio::null());
        command
    }

    /// What a statement answers: a line for each row, with `|` between its columns.
    ///
    /// # Panics
    /// When it fails.
    pub fn query(&self, sql: &str) -> String {
        run_sql(&self.url(), sql)
    }

    /// `kill -9` of the postmaster; whatever was not committed is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it as an operator would who cannot wait: connections are cut, nothing is lost.
    pub fn stop(&mut self) {
        self.process.ask_to_end("INT");
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn start_again(&mut self) {
        let began = Instant::now();
        while let Err(problem) = self.run() {
            assert!(began.elapsed() < RESTART_MAX, "PostgreSQL: {problem}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the clockwork: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        self.process.send_to_all("STOP");
    }

    pub fn thaw(&self) {
        self.process.send_to_all("CONT");
    }

    fn run(&mut self) -> Result<(), String> {
        let Self { process, installation, port } = self;
        let mut command = installation.server(&process.folder, *port);
        let folder = process.folder.clone();
        process.start(&mut command, || installation.is_ready(&folder, *port))
    }
}

pub(crate) fn url(port: u16) -> String {
    format!("postgres://windlass@127.0.0.1:{port}/postgres")
}

/// The programs of PostgreSQL, and who may run them.
pub(crate) struct Installation {
    programs: PathBuf,
    account: Account,
}

impl Installation {
    pub(crate) fn find() -> Self {
        let initdb = process::find(&["initdb"], &installed_by_debian())
            .expect("PostgreSQL is not installed: run `cargo xtask setup`");
        // A link on the PATH may lead to where its neighbours are.
        let initdb = initdb.canonicalize().unwrap_or(initdb);
        let programs = initdb.parent().expect("a program lies in a folder").to_path_buf();
        Self { programs, account: Account::for_servers() }
    }

    /// Makes an empty database cluster in `folder/data`.
    pub(crate) fn prepare(&self, folder: &Path) {
        self.account.give(folder);
        let made = self
            .account
            .command(&self.programs.join("initdb"))
            .arg("--pgdata")
            .arg(folder.join("data"))
            .args(["--username=windlass", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .stdin(Stdio::null())
            .output()
            .expect("initdb can be started");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }

    pub(crate) fn server(&self, folder: &Path, port: u16) -> Command {
        let mut command = self.account.command(&self.programs.join("postgres"));
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            // Several houses of several processes at a time, each with a pool of its own.
            "max_connections=1000",
            "fsync=on",
            "synchronous_commit=on",
            "shared_buffers=128MB",
            "timezone=UTC",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    /// One of the programs for clients.
    pub(crate) fn client(&self, program: &str) -> Command {
        Command::new(self.programs.join(program))
    }

    pub(crate) fn is_ready(&self, folder: &Path, port: u16) -> bool {
        let mut command = self.client("pg_isready");
        command.arg("--host").arg(folder).args(["--port", &port.to_string()]);
        command.args(["--username=windlass", "--quiet"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// Debian keeps several versions beside each other; the newest first.
fn installed_by_debian() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut versions: Vec<_> = versions.filter_map(|entry| Some(entry.ok()?.path())).collect();
    versions.sort_by_key(|path| {
        let version =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    versions.into_iter().map(|path| path.join("bin")).collect()
}
