//! The house under measurement: its processes, and the servers it needs.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use servers::{Postgres, Redis};
use tempfile::TempDir;

use crate::connection::{Connection, post_request};
use crate::program::{Orders, Program};
use crate::{Mode, Plan};

/// Our tables, their indexes and what does not fit into their rows.
const TABLE_BYTES: &str = "select sum(pg_total_relation_size(c.oid))::bigint from pg_class c \
     join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')";
/// Write transactions begun so far, and bytes of write-ahead log: both exact at any moment, other than the
/// statistics views, which lag by a second and more.
const JOURNAL: &str = "select pg_snapshot_xmax(pg_current_snapshot()), \
     pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";

/// Processes come first: they end before the servers that they use.
pub(crate) struct House {
    /// Whoever answers HTTP: APIs, or the one process that is everything.
    pub(crate) doors: Vec<Program>,
    pub(crate) workers: Vec<Program>,
    pub(crate) servers: Option<Servers>,
    pub(crate) folder: TempDir,
    /// Connections go to one API after the other.
    next_door: Cell<usize>,
}

/// What a fleet needs beside its own processes.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
}

impl House {
    /// Starts on an empty database.
    pub(crate) fn open(plan: &Plan) -> Result<Self> {
        Self::open_with(plan, &[])
    }

    pub(crate) fn open_with(plan: &Plan, settings: &[(&'static str, String)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("windlass-bench-").tempdir_in(&plan.folder)?;
        match plan.mode {
            Mode::Embedded => Self::embedded(folder, settings),
            Mode::Fleet => Self::fleet(folder, settings, plan),
        }
    }

    fn embedded(folder: TempDir, settings: &[(&'static str, String)]) -> Result<Self> {
        let order = orders(["dev", "--port", "0", "--db", "windlass.db"], settings, folder.path());
        let doors = vec![Program::start(order)?];
        Ok(Self { doors, workers: Vec::new(), servers: None, folder, next_door: Cell::new(0) })
    }

    fn fleet(folder: TempDir, settings: &[(&'static str, String)], plan: &Plan) -> Result<Self> {
        let servers = Servers { postgres: Postgres::start_below(&plan.folder), redis: Redis::start() };
        let mut settings = settings.to_vec();
        settings.push(("WINDLASS_DATABASE_URL", servers.postgres.url()));
        settings.push(("WINDLASS_REDIS_URL", servers.redis.url()));
        orders(["migrate"], &settings, folder.path()).run()?;
        let start = |words: [&str; 3]| Program::start(orders(words, &settings, folder.path()));
        let doors =
            (0..plan.apis).map(|_| start(["api", "--listen", "127.0.0.1:0"])).collect::<Result<_>>()?;
        let workers = (0..plan.workers)
            .map(|_| start(["worker", "--health-listen", "127.0.0.1:0"]))
            .collect::<Result<_>>()?;
        Ok(Self { doors, workers, servers: Some(servers), folder, next_door: Cell::new(0) })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let door = self.next_door.get() % self.doors.len();
        self.next_door.set(door + 1);
        let address = &self.doors[door].address;
        Connection::open(address).await.context("the server does not take a connection")
    }

    /// Publishes a definition.
    pub(crate) async fn publish(&self, spec: Value) -> Result<()> {
        let request = post_request("/v1/workflows", &serde_json::json!({ "spec": spec }));
        let (status, body) = self.connect().await?.exchange(&request).await?;
        ensure!(status == 201, "the workflow was refused: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    /// Publishes a serial workflow of so many steps that do nothing.
    pub(crate) async fn publish_noops(&self, name: &str, steps: usize) -> Result<()> {
        let list: Vec<_> =
            (0..steps).map(|n| serde_json::json!({"id": format!("s{n}"), "type": "noop"})).collect();
        self.publish(serde_json::json!({"version": 1, "name": name, "type": "steps", "steps": list})).await
    }

    /// Write transactions and bytes of write-ahead log so far, where PostgreSQL tells.
    pub(crate) fn journal(&self) -> Result<Option<(f64, f64)>> {
        let Some(servers) = &self.servers else { return Ok(None) };
        let said = servers.postgres.query(JOURNAL);
        let (transactions, bytes) = said.split_once('|').context("two columns")?;
        Ok(Some((transactions.parse()?, bytes.parse()?)))
    }

    /// Stops all processes in peace. Returns the bytes of the database: its tables after a vacuum, or its files with
    /// the bounded write-ahead log.
    pub(crate) fn stop(self) -> Result<u64> {
        for program in self.workers.into_iter().chain(self.doors) {
            program.stop()?;
        }
        match &self.servers {
            Some(servers) => {
                servers.postgres.query("vacuum");
                Ok(servers.postgres.query(TABLE_BYTES).parse()?)
            }
            None => bytes_of_files(self.folder.path(), "windlass.db"),
        }
    }
}

fn orders<const N: usize>(words: [&str; N], settings: &[(&'static str, String)], folder: &Path) -> Orders {
    let arguments = words.map(str::to_owned).to_vec();
    Orders { arguments, settings: settings.to_vec(), folder: folder.to_owned() }
}

fn bytes_of_files(folder: &Path, prefix: &str) -> Result<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(prefix) {
            bytes += file.metadata()?.len();
        }
    }
    Ok(bytes)
}
