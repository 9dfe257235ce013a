//! Proves that the statements which run all the time touch what they need and nothing else.
//!
//! A planner guesses. On a table that it has not analysed it guesses wrong, and the same statement then
//! costs a thousand times as much; so every plan is asked for on an empty table, a large one that nobody
//! has analysed, and a large one that somebody has.

use rusqlite::{Connection, StatementStatus};
use windlass_model::{RunStatus, TenantId, Timestamp};
use windlass_store::RunFilter;

use crate::list_runs::Search;
use crate::sessions::OwnSessions;
use crate::{migrate, open, query};

const ROWS: u32 = 20_000;

struct Databases(Vec<(&'static str, Connection)>);

impl Databases {
    /// Empty; large; large and analysed.
    fn all() -> Self {
        Self(vec![
            ("empty", database(0, false)),
            ("large", database(ROWS, false)),
            ("analysed", database(ROWS, true)),
        ])
    }

    /// As they are when nobody runs ANALYZE, and nobody does.
    fn not_analysed() -> Self {
        Self(vec![("empty", database(0, false)), ("large", database(ROWS, false))])
    }

    /// Each table access of the plan must be one of these, and each of these must occur.
    fn assert_plan(&self, sql: &str, accesses: &[&str]) {
        for (name, connection) in &self.0 {
            let plan = plan(connection, sql);
            let is_access = |line: &&String| line.starts_with("SEARCH ") || line.starts_with("SCAN ");
            for line in plan.iter().filter(is_access) {
                let is_expected = accesses.iter().any(|access| line.starts_with(access));
                let is_inner = line.starts_with("SCAN (subquery") || line.starts_with("SCAN CONSTANT");
                assert!(is_expected || is_inner, "{name} database, `{line}` of {plan:#?}\nfor {sql}");
            }
            for access in accesses {
                let occurs = plan.iter().any(|line| line.starts_with(access));
                assert!(occurs, "{name} database, no `{access}` in {plan:#?}\nfor {sql}");
            }
        }
    }

    fn assert_sorts_nothing(&self, sql: &str) {
        for (name, connection) in &self.0 {
            let plan = plan(connection, sql);
            assert!(
                !plan.iter().any(|line| line.contains("TEMP B-TREE")),
                "{name} database: {plan:#?}\nfor {sql}"
            );
        }
    }
}

fn database(rows: u32, analyse: bool) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    open::set_up(&connection, &OwnSessions::default()).unwrap();
    migrate::bring_up_to_date(&connection).unwrap();
    fill(&connection, rows);
    if analyse {
        connection.execute_batch("analyze").unwrap();
    }
    connection
}

/// Nine runs of ten have ended; the rest waits, is held, or waits for a time.
fn fill(connection: &Connection, rows: u32) {
    let sql = format!(
        "pragma foreign_keys = off;
         create temp table numbers as
             with recursive n (n) as (select 1 union all select n + 1 from n where n < {rows}) select n from n where n <= {rows};
         insert into workflow_runs (id, tenant, version_id, workflow, status, version, next_seq, epoch, priority,
                                    lease_owner, wake_at, last_activity_at, created_at)
         select cast(printf('%016d', n) as blob), 1, 1, 'notes',
                case when n % 10 > 0 then 'completed' when n % 40 = 0 then 'queued' when n % 40 = 10 then 'waiting' else 'running' end,
                3, 4, 1, 1, case when n % 20 = 0 and n % 40 <> 0 or n % 40 = 30 then zeroblob(16) end,
                case when n % 40 = 10 then n end, n, n
           from numbers;
         insert into run_labels select cast(printf('%016d', n) as blob), 1, 'team', n % 100 from numbers;
         insert into approvals (run_id, seq, tenant, workflow, node, attempt, requested_at)
         select cast(printf('%016d', n) as blob), 3, 1, 'notes', 'gate', 1, n from numbers where n % 10 = 0;
         insert into workflow_run_events (run_id, seq, at, code, data)
         select cast(printf('%016d', n) as blob), s.value, n, 20, '{{}}' from numbers, json_each('[1,2,3]') s;
         insert into outbox (tenant, run_id, seq, topic, body, created_at, due_at)
         select 1, cast(printf('%016d', n) as blob), 1, 't', '{{}}', n, n from numbers where n % 10 = 0;"
    );
    connection.execute_batch(&sql).unwrap();
}

fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("explain query plan {sql}")).unwrap();
    let parameters = statement.parameter_count();
    for index in 1..=parameters {
        statement.raw_bind_parameter(index, 1).unwrap();
    }
    let mut rows = statement.raw_query();
    let mut plan = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        plan.push(row.get::<_, String>(3).unwrap());
    }
    plan
}

#[test]
fn a_plan_is_made_once_and_not_for_what_is_bound() {
    for (name, connection) in &Databases::all().0 {
        for sql in [
            query!("find_due"),
            query!("find_due.any"),
            query!("read_events"),
            query!("read_outbox"),
            query!("list_schedules"),
        ] {
            let mut statement = connection.prepare(sql).unwrap();
            for value in 1..=3 {
                for index in 1..=statement.parameter_count() {
                    statement.raw_bind_parameter(index, value).unwrap();
                }
                let mut rows = statement.raw_query();
                while rows.next().unwrap().is_some() {}
            }
            let made_again = statement.get_status(StatementStatus::RePrepare);
            assert_eq!(made_again, 0, "{name} database, {sql}");
        }
    }
}

#[test]
fn a_write_finds_its_run_by_the_primary_key() {
    let databases = Databases::all();
    for sql in [query!("write_run.tick"), query!("write_run"), query!("write_run.why"), query!("touch_run")] {
        databases.assert_plan(sql, &["SEARCH workflow_runs USING PRIMARY KEY (id=?)"]);
    }
}

#[test]
fn a_claim_finds_its_run_by_the_primary_key() {
    let databases = Databases::all();
    let accesses = [
        "SEARCH workflow_runs USING PRIMARY KEY (id=?)",
        "SEARCH c USING INDEX workflow_runs_untold (parent_id=?)",
    ];
    databases.assert_plan(query!("claim_run"), &accesses);
}

#[test]
fn a_run_is_read_by_primary_keys() {
    let databases = Databases::all();
    let row = ["SEARCH r USING PRIMARY KEY (id=?)", "SEARCH l USING PRIMARY KEY (run_id=?)"];
    databases.assert_plan(query!("get_run"), &row);
    databases.assert_plan(query!("claim_run.row"), &row);
    let events = [
        "SEARCH workflow_run_events USING INDEX sqlite_autoindex_workflow_run_events_1 (run_id=? AND seq>?)",
    ];
    for sql in [query!("load_run.events"), query!("read_events")] {
        databases.assert_plan(sql, &events);
        databases.assert_sorts_nothing(sql);
    }
}

#[test]
fn a_sweep_reads_only_what_may_be_due() {
    let databases = Databases::all();
    let accesses = [
        "SCAN workflow_runs USING COVERING INDEX workflow_runs_claimable",
        "SEARCH workflow_runs USING INDEX workflow_runs_by_wake_at (wake_at>? AND wake_at<?)",
        "SEARCH workflow_runs USING INDEX workflow_runs_held (lease_owner>?)",
        "SEARCH workflow_runs USING INDEX workflow_runs_untold (parent_id>?)",
        // What the line before has found.
        "SCAN c",
        "SEARCH p USING PRIMARY KEY (id=?)",
        "SCAN concurrency_places USING COVERING INDEX concurrency_places_freed",
        "SEARCH workflow_runs USING INDEX workflow_runs_moved (lease_owner=?)",
        "SEARCH schedules EXISTS USING INDEX schedules_due (next_at>? AND next_at<?)",
    ];
    databases.assert_plan(query!("find_due"), &accesses);
    databases.assert_plan(
        query!("find_due.any"),
        &[
            "SCAN workflow_runs USING COVERING INDEX workflow_runs_claimable",
            "SEARCH workflow_runs USING INDEX workflow_runs_by_wake_at (wake_at>? AND wake_at<?)",
            "SEARCH workflow_runs USING INDEX workflow_runs_untold (parent_id>?)",
            "SEARCH workflow_runs USING INDEX workflow_runs_held (lease_owner>?)",
            "SEARCH workflow_runs USING COVERING INDEX workflow_runs_moved (lease_owner=?)",
            "SCAN concurrency_places USING COVERING INDEX concurrency_places_freed",
            "SEARCH schedules USING INDEX schedules_due (next_at>? AND next_at<?)",
            "SCAN CONSTANT ROW",
        ],
    );
    databases.assert_plan(
        query!("find_ended_children"),
        &[
            "SEARCH c USING INDEX workflow_runs_untold (parent_id=?)",
            "SEARCH e USING INDEX sqlite_autoindex_workflow_run_events_1 (run_id=? AND seq=?)",
        ],
    );
}

#[test]
fn a_parameter_fits_an_index_of_what_is_not_null() {
    let databases = Databases::not_analysed();
    let held = "SEARCH workflow_runs USING COVERING INDEX workflow_runs_held (lease_owner=?)";
    databases.assert_plan(query!("clean_up.owns_runs"), &[held]);
    databases.assert_plan(
        query!("get_version"),
        &[
            "SEARCH w USING INDEX sqlite_autoindex_workflows_1 (tenant=? AND name=?)",
            "SEARCH v USING INDEX workflow_versions_by_number (workflow_id=? AND version=?)",
        ],
    );
}

#[test]
fn runs_are_counted_from_an_index() {
    let databases = Databases::all();
    databases.assert_plan(
        query!("count_runs"),
        &["SCAN workflow_runs USING COVERING INDEX workflow_runs_by_status"],
    );
    databases.assert_plan(
        query!("count_open_runs"),
        &["SEARCH workflow_runs USING COVERING INDEX workflow_runs_by_status (tenant=? AND status=?)"],
    );
}

#[test]
fn lists_walk_an_index_in_its_order() {
    // Analysed, a planner may as well walk all runs when all are of one tenant, or of one status.
    let databases = Databases::not_analysed();
    let search = |filter: RunFilter| {
        let mut searches = Search::all_of(TenantId(1), &filter, None, 50);
        searches.remove(0).sql
    };
    let labels = "SEARCH l USING PRIMARY KEY (run_id=?)";
    let base = RunFilter::default();
    let all = search(base.clone());
    databases.assert_plan(&all, &["SEARCH r USING INDEX workflow_runs_by_tenant (tenant=?)", labels]);
    let status = search(RunFilter { statuses: vec![RunStatus::Failed], ..base.clone() });
    databases.assert_plan(
        &status,
        &["SEARCH r USING INDEX workflow_runs_by_status (tenant=? AND status=?)", labels],
    );
    let workflow = search(RunFilter { workflow: Some("notes".into()), ..base.clone() });
    databases.assert_plan(
        &workflow,
        &["SEARCH r USING INDEX workflow_runs_by_workflow (tenant=? AND workflow=?)", labels],
    );
    let label = search(RunFilter { labels: vec![("team".into(), "1".into())], ..base.clone() });
    databases.assert_plan(
        &label,
        &[
            "SEARCH l USING COVERING INDEX run_labels_by_value (tenant=? AND key=? AND value=?)",
            "SEARCH r USING PRIMARY KEY (id=?)",
            labels,
        ],
    );
    let time = search(RunFilter { created_after: Some(Timestamp(1)), ..base });
    for sql in [all, status, workflow, label, time] {
        databases.assert_sorts_nothing(&sql);
    }
}

#[test]
fn the_inbox_and_the_outbox_walk_an_index_in_its_order() {
    let databases = Databases::all();
    let open = query!("list_approvals.open");
    databases.assert_plan(
        open,
        &["SEARCH approvals USING INDEX approvals_open (tenant=? AND (requested_at,run_id,seq)>(?,?,?))"],
    );
    let all = query!("list_approvals");
    databases.assert_plan(
        all,
        &["SEARCH approvals USING INDEX approvals_by_time (tenant=? AND (requested_at,run_id,seq)>(?,?,?))"],
    );
    databases.assert_plan(query!("list_approvals.run"), &["SEARCH approvals USING PRIMARY KEY (run_id=?)"]);
    databases
        .assert_plan(query!("write_run.approval_closed"), &["SEARCH approvals USING PRIMARY KEY (run_id=?)"]);
    databases.assert_plan(query!("read_outbox"), &["SEARCH outbox USING INDEX outbox_due (due_at<?)"]);
    for sql in [open, all, query!("read_outbox")] {
        databases.assert_sorts_nothing(sql);
    }
}

#[test]
fn a_reply_is_found_and_forgotten_without_a_walk() {
    let databases = Databases::all();
    let key = "SEARCH idempotency_keys USING INDEX sqlite_autoindex_idempotency_keys_1 (tenant=? AND principal=? AND route=? AND key=?)";
    databases.assert_plan(query!("find_reply"), &[key]);
    databases.assert_sorts_nothing(query!("clean_up.replies"));
}
