//! A database of one test, on a server that others use as well.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::postgres::Installation;

static MADE: AtomicU32 = AtomicU32::new(0);

/// Empty at first. Dropped, with whoever is connected to it, when this is.
pub struct Database {
    server_url: String,
    name: String,
}

impl Database {
    pub(crate) fn create(server_url: &str) -> Self {
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let name = format!("windlass_{}_{number}", std::process::id());
            let made = tool("createdb", server_url, &[&name]);
            let problem = String::from_utf8_lossy(&made.stderr).into_owned();
            match made.status.success() {
                true => return Self { server_url: server_url.to_owned(), name },
                // Of an earlier process of the same number, that was killed.
                false => assert!(problem.contains("already exists"), "createdb: {problem}"),
            }
        }
    }

    /// For the server's superuser, over TCP.
    pub fn url(&self) -> String {
        let (server, _) = self.server_url.rsplit_once('/').expect("the URL names a database");
        format!("{server}/{}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Left behind, it goes with the server.
        tool("dropdb", &self.server_url, &["--force", &self.name]);
    }
}

/// Everything in a database as text; binary values in hexadecimal.
///
/// # Panics
/// When the server does not answer.
pub fn dump(url: &str) -> String {
    let dumped = Installation::find().client("pg_dump").arg("--dbname").arg(url).output();
    let dumped = dumped.expect("pg_dump can be started");
    assert!(dumped.status.success(), "pg_dump: {}", String::from_utf8_lossy(&dumped.stderr));
    String::from_utf8_lossy(&dumped.stdout).into_owned()
}

/// What statements answer to the server's superuser: a line for each row, with `|` between its columns.
///
/// # Panics
/// When one fails.
pub fn run_sql(url: &str, sql: &str) -> String {
    let ran = psql(url).args(["--command", sql]).stdin(Stdio::null()).output();
    let ran = ran.expect("psql can be started");
    assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim_end().to_owned()
}

fn psql(url: &str) -> Command {
    let mut psql = Installation::find().client("psql");
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
    psql.args(["--dbname", url]);
    psql
}

/// A transaction that is under way as long as this lives, and is undone then.
pub struct Transaction {
    psql: Child,
    /// The client ends with its input.
    stdin: Option<ChildStdin>,
}

impl Transaction {
    /// # Panics
    /// When the statement fails.
    pub fn begin(url: &str, sql: &str) -> Self {
        let psql = psql(url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut psql = psql.expect("psql can be started");
        let mut stdin = psql.stdin.take().expect("it was asked for");
        writeln!(stdin, "begin; {sql}; select 'done';").expect("psql listens");
        let mut answers = BufReader::new(psql.stdout.take().expect("it was asked for")).lines();
        assert!(answers.any(|line| line.is_ok_and(|line| line == "done")), "{sql} failed");
        Self { psql, stdin: Some(stdin) }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.psql.wait();
    }
}

fn tool(program: &str, server_url: &str, arguments: &[&str]) -> std::process::Output {
    let mut command: Command = Installation::find().client(program);
    command.args(["--maintenance-db", server_url]).args(arguments).stdin(Stdio::null());
    command.output().expect("a program of PostgreSQL can be started")
}
