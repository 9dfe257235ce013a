//! What the databases alone do with the writes of a step: one run's row updated, two events added, flushed.
//!
//! No engine can be faster than that on the machine and at the moment of a measurement, so results from different
//! machines are compared by their ratio to it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};
use servers::Postgres;

use crate::report::Report;
use crate::{Mode, Plan, Workload};

const CLIENTS: &[u32] = &[1, 8, 32];
/// Ticks that share one transaction, as those of different runs do in a house.
const GROUPS: &[u32] = &[1, 10, 100];
/// By which a house is judged: groups as large as its own, and enough clients to keep the disk busy.
const JUDGE_CLIENTS: u32 = 8;
const JUDGE_GROUP: u32 = 100;
const SECONDS: u32 = 2;
/// Each client has runs of its own: a held run is in one transaction at a time.
const RUNS_PER_CLIENT: u32 = 3_000;
/// What the success of a step that does nothing looks like.
const DATA: &str = r#"{"output":{},"artifacts":[]}"#;

/// Both databases, at every width.
pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::of_all_modes("limit");
    let postgres = BarePostgres::start(&plan.folder);
    for &clients in CLIENTS {
        for &group in GROUPS {
            let rate = postgres.rate(clients, group)?;
            report.set(format!("postgres_clients_{clients}_group_{group}_ticks_per_s"), rate);
        }
    }
    drop(postgres);
    for &group in GROUPS {
        let rate = sqlite_rate(&plan.folder, group)?;
        report.set(format!("sqlite_group_{group}_ticks_per_s"), rate);
    }
    Ok(report)
}

/// Adds what the database alone does at this moment, and the ratio of the workload's figure to it: of many steps at once
/// their rate, of what follows one upon another its time.
pub(crate) fn compare(workload: Workload, plan: &Plan, report: &mut Report) -> Result<()> {
    let (name, milliseconds) = match workload {
        Workload::W1 | Workload::W6 => {
            let ticks_per_s = grouped_ticks_per_s(plan)?;
            let ratio = report.get("steps_per_s").map(|steps_per_s| steps_per_s / ticks_per_s);
            report.set("limit_ticks_per_s", ticks_per_s).set_if("ratio_to_limit", ratio);
            return Ok(());
        }
        Workload::W2 => ("step_p50_ms", 1.0),
        Workload::W3 => ("wall_ms", 1.0),
        Workload::W4 => ("resume_p50_ms", 1.0),
        Workload::W5 => ("kill_to_done_s", 1_000.0),
        Workload::Limit => return Ok(()),
    };
    let tick_ms = single_tick_ms(plan)?;
    let ratio = report.get(name).map(|time| time * milliseconds / tick_ms);
    let idle_ms_per_s = report.get("idle_cpu_percent").map(|percent| percent * 10.0);
    report
        .set("limit_tick_ms", tick_ms)
        .set_if("ratio_to_limit", ratio)
        .set_if("idle_ticks_per_s", idle_ms_per_s.map(|idle_ms| idle_ms / tick_ms));
    Ok(())
}

/// The most ticks that the database of this mode takes when many share a transaction.
fn grouped_ticks_per_s(plan: &Plan) -> Result<f64> {
    match plan.mode {
        Mode::Embedded => sqlite_rate(&plan.folder, JUDGE_GROUP),
        Mode::Fleet => BarePostgres::start(&plan.folder).rate(JUDGE_CLIENTS, JUDGE_GROUP),
    }
}

/// What one tick takes when nothing else happens.
fn single_tick_ms(plan: &Plan) -> Result<f64> {
    let ticks_per_s = match plan.mode {
        Mode::Embedded => sqlite_rate(&plan.folder, 1)?,
        Mode::Fleet => BarePostgres::start(&plan.folder).rate(1, 1)?,
    };
    Ok(1_000.0 / ticks_per_s)
}

/// A server with two tables like ours and nothing else.
struct BarePostgres(Postgres);

impl BarePostgres {
    fn start(folder: &Path) -> Self {
        let postgres = Postgres::start_below(folder);
        let runs = RUNS_PER_CLIENT * CLIENTS[CLIENTS.len() - 1];
        postgres.query(&format!(
            "create table runs (id integer primary key, version integer not null,
                 last_activity_at timestamptz not null, status text not null) with (fillfactor = 60);
             create table events (run_id integer not null, seq integer not null, at timestamptz not null,
                 epoch integer, code smallint not null, data json not null, primary key (run_id, seq));
             insert into runs select n, 1, clock_timestamp(), 'running' from generate_series(0, {runs}) n",
        ));
        postgres.query("vacuum analyze runs");
        Self(postgres)
    }

    /// What pgbench makes of it, each transaction one prepared statement.
    fn rate(&self, clients: u32, group: u32) -> Result<f64> {
        let groups_max = RUNS_PER_CLIENT / group - 1;
        let script = format!(
            "\\set id :client_id * {RUNS_PER_CLIENT} + random(0, {groups_max}) * {group}
             with u as (
                 update runs set version = version + 1, last_activity_at = clock_timestamp()
                  where id >= :id and id < :id + {group} returning id, version)
             insert into events select u.id, u.version * 2 + k, clock_timestamp(), 1, 20 + k, '{DATA}'
               from u cross join generate_series(0, 1) k;\n"
        )
        // A meta command ends with its line, a statement with its semicolon.
        .replace("             ", "");
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("tick.sql");
        std::fs::write(&file, script)?;
        let mut pgbench = self.0.client("pgbench");
        pgbench.args(["--no-vacuum", "--protocol=prepared"]).arg("--file").arg(&file);
        pgbench.args(["--client", &clients.to_string(), "--time", &SECONDS.to_string()]);
        let output = pgbench.output().context("pgbench lies beside the server")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
        let tps =
            text.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench tells a rate")?;
        let tps: f64 = tps.split_whitespace().next().context("a number")?.parse()?;
        Ok(tps * f64::from(group))
    }
}

/// One writer, `synchronous = FULL`, each transaction flushed.
fn sqlite_rate(folder: &Path, group: u32) -> Result<f64> {
    let folder = tempfile::Builder::new().prefix("windlass-bench-").tempdir_in(folder)?;
    let mut database = Connection::open(folder.path().join("limit.db"))?;
    database.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         create table runs (id integer primary key, version integer not null, last_activity_at integer not null,
             status text not null);
         create table events (run_id integer not null, seq integer not null, at integer not null, epoch integer,
             code integer not null, data text not null, primary key (run_id, seq)) without rowid;",
    )?;
    database.execute(
        "insert into runs with recursive n (id) as (select 0 union all select id + 1 from n where id < ?1)
         select id, 1, 0, 'running' from n",
        [RUNS_PER_CLIENT],
    )?;
    let (began, mut ticks) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs(SECONDS.into()) {
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for _ in 0..group {
            // Each run in turn, so that a group holds different ones.
            let (id, version) = (ticks % RUNS_PER_CLIENT, ticks / RUNS_PER_CLIENT + 1);
            transaction
                .prepare_cached("update runs set version = version + 1, last_activity_at = ?2 where id = ?1")?
                .execute(params![id, ticks])?;
            let mut insert =
                transaction.prepare_cached("insert into events values (?1, ?2, ?3, 1, ?4, ?5)")?;
            for k in 0..2 {
                insert.execute(params![id, version * 2 + k, ticks, 20 + k, DATA])?;
            }
            ticks += 1;
        }
        transaction.commit()?;
    }
    Ok(f64::from(ticks) / began.elapsed().as_secs_f64())
}
