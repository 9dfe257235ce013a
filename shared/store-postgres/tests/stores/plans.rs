//! What a statement costs does not depend on what the planner knows about the tables.
//!
//! The rows that were visited are read from the server's own counters, so that what is checked are the plans of the
//! store's own connections, cached as they are.

use std::time::Duration;

use sqlx::Row;
use windlass_model::{RunId, SessionId, TenantId, VersionId};
use windlass_store::{Runs as _, Store};
use windlass_store_postgres::PostgresStore;

use crate::hands::{Hand, definition, fresh_id, fresh_session, new_run};
use crate::subject::Schema;

/// The server publishes counters of a connection once a second at most.
const PUBLISHED_EVERY: Duration = Duration::from_millis(1_100);
/// A sweep looks every five seconds how large the table has become.
const SIZE_SEEN_WITHIN: Duration = Duration::from_millis(5_100);
/// Rows of other runs, all held by the session that does the work: the owner's index is the trap.
const CROWD: u32 = 20_000;
/// Of each kind.
const WRITES: i64 = 60;
/// What one tick, one create, one claim and one claim of nothing may fetch together.
const FETCHED_MAX: i64 = 12;

/// Rows of the table of runs that were read by walking it, and that were fetched through an index.
async fn visited(schema: &Schema) -> (i64, i64) {
    let sql = "select seq_tup_read, coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
                where schemaname = $1 and relname = 'workflow_runs'";
    let row = sqlx::query(sql).bind(&schema.name).fetch_one(&schema.pool().await).await.unwrap();
    (row.get(0), row.get(1))
}

async fn crowd(schema: &Schema, (version, session): (VersionId, SessionId)) {
    let sql = format!(
        "with r as (
             insert into workflow_runs (id, version_id, last_activity_at, created_at, tenant, version, next_seq, epoch,
                                        priority, status, lease_owner)
             select gen_random_uuid(), {version}, now(), now(), 1, 2, 3, 1, 1, 'running', '{session}'
               from generate_series(1, {CROWD})
             returning id)
         insert into workflow_run_events (run_id, at, seq, code, data)
         select r.id, now(), n, n, '{{}}' from r, generate_series(1, 2) n"
    );
    schema.run(sql).await.unwrap();
}

/// One of each.
async fn work(store: &dyn Store, hand: &mut Hand, version: VersionId) {
    store.write_run(hand.tick()).await.unwrap();
    let run = new_run(fresh_id(), version);
    let (id, session) = (run.id, hand.fence.session);
    store.create_run(run).await.unwrap();
    assert!(store.claim_run(id, session, Duration::from_secs(600)).await.unwrap().is_some());
    assert!(store.claim_run(RunId(uuid::Uuid::nil()), session, Duration::ZERO).await.unwrap().is_none());
}

/// Does the work, and says how many rows each round has visited on average.
async fn visited_by_work(
    schema: &Schema,
    store: &dyn Store,
    (version, session): (VersionId, SessionId),
) -> (i64, i64) {
    let mut hand = Hand::fresh(store, version, session).await;
    // What is still counted for what came before is published with this.
    tokio::time::sleep(PUBLISHED_EVERY).await;
    work(store, &mut hand, version).await;
    let before = visited(schema).await;
    for _ in 0..WRITES {
        work(store, &mut hand, version).await;
    }
    tokio::time::sleep(PUBLISHED_EVERY).await;
    work(store, &mut hand, version).await;
    let after = visited(schema).await;
    assert!(after.1 - before.1 >= 3 * WRITES, "the counters are published: {before:?}, {after:?}");
    ((after.0 - before.0) / WRITES, (after.1 - before.1) / WRITES)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_and_claims_visit_their_own_rows_only() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    // What the server finds out by itself would make it a matter of time what is tested here.
    schema.run("alter table workflow_runs set (autovacuum_enabled = off)").await.unwrap();
    let who = (definition(&*store).await, fresh_session());
    // A table of a few pages may be walked. The plans that are cached afterwards were made for such a table.
    visited_by_work(&schema, &*store, who).await;
    crowd(&schema, who).await;
    let (walked, fetched) = visited_by_work(&schema, &*store, who).await;
    assert!(
        walked == 0 && fetched <= FETCHED_MAX,
        "large, never analysed: {walked} walked, {fetched} fetched"
    );
    schema.run("analyze workflow_runs").await.unwrap();
    let (walked, fetched) = visited_by_work(&schema, &*store, who).await;
    assert!(walked == 0 && fetched <= FETCHED_MAX, "large, analysed: {walked} walked, {fetched} fetched");
    // And those of a process that starts now.
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let (walked, fetched) = visited_by_work(&schema, &*store, who).await;
    assert!(walked == 0 && fetched <= FETCHED_MAX, "started anew: {walked} walked, {fetched} fetched");
}

/// The server looks at a table when it has one row; to read it all is then the best plan there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_small_when_it_was_analysed_may_grow() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    schema.run("alter table workflow_runs set (autovacuum_enabled = off)").await.unwrap();
    let who = (definition(&*store).await, fresh_session());
    Hand::fresh(&*store, who.0, who.1).await;
    schema.run("analyze workflow_runs").await.unwrap();
    visited_by_work(&schema, &*store, who).await;
    crowd(&schema, who).await;
    let (walked, fetched) = visited_by_work(&schema, &*store, who).await;
    assert!(walked == 0 && fetched <= FETCHED_MAX, "{walked} walked, {fetched} fetched");
}

/// Runs that wait and runs that have ended, children and parents among them; one parent has not taken in the end of its child.
async fn resting(schema: &Schema, version: VersionId) {
    let sql = format!(
        "insert into workflow_runs (id, version_id, last_activity_at, created_at, tenant, version, next_seq, epoch,
                                    priority, status, parent_id, parent_told, ended_at)
         select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, {version}, now(), now(), 1, 2, 3, 1, 1,
                case when n % 2 = 0 then 'waiting' else 'completed' end,
                case when n % 2 = 1 then ('00000000-0000-4000-8000-' || lpad((n - 1)::text, 12, '0'))::uuid end,
                n % 2 = 1 and n > 1, case when n % 2 = 1 then now() end
           from generate_series(0, {CROWD}) n"
    );
    schema.run(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_visits_what_it_finds_and_nothing_else() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    schema.run("alter table workflow_runs set (autovacuum_enabled = off)").await.unwrap();
    let version = definition(&*store).await;
    let session = fresh_session();
    let sweep = async || {
        let due =
            store.find_due(session, Duration::from_secs(2), Duration::from_secs(60), 100).await.unwrap();
        (due.runs.len(), due.moved.len())
    };
    // Planned for a table without rows, which the server has looked at.
    schema.run("analyze workflow_runs").await.unwrap();
    assert_eq!(sweep().await, (0, 0));
    resting(&schema, version).await;
    let told = "update workflow_runs set parent_told = true where parent_id is not null";
    for (state, change, found) in
        [("analysed when empty", "", 1), ("analysed", "analyze workflow_runs", 1), ("at rest", told, 0)]
    {
        schema.run(change).await.unwrap();
        // By then it is seen how far the table has grown.
        tokio::time::sleep(SIZE_SEEN_WITHIN).await;
        assert_eq!(sweep().await, (found, 0));
        let before = visited(&schema).await;
        for _ in 0..10 {
            assert_eq!(sweep().await, (found, 0));
        }
        tokio::time::sleep(PUBLISHED_EVERY).await;
        sweep().await;
        let after = visited(&schema).await;
        // The child twice, and its parent for each of the two who may have to do with it.
        let (walked, fetched) = (after.0 - before.0, after.1 - before.1);
        assert!(walked == 0 && fetched <= 4 * 12, "{state}: {walked} walked, {fetched} fetched");
    }
}

/// Most runs have ended, and nobody has told the planner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_runs_are_counted_no_further_than_asked() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    schema.run("alter table workflow_runs set (autovacuum_enabled = off)").await.unwrap();
    let who = (definition(&*store).await, fresh_session());
    crowd(&schema, who).await;
    let ended = "update workflow_runs set status = 'completed', lease_owner = null, ended_at = now() where ctid < '(100,0)'";
    schema.run(ended).await.unwrap();
    for state in ["never analysed", "analysed"] {
        tokio::time::sleep(PUBLISHED_EVERY).await;
        store.count_open_runs(TenantId::DEFAULT, 10).await.unwrap();
        let before = visited(&schema).await;
        for _ in 0..10 {
            assert_eq!(store.count_open_runs(TenantId::DEFAULT, 10).await.unwrap(), 10);
        }
        tokio::time::sleep(PUBLISHED_EVERY).await;
        store.count_open_runs(TenantId::DEFAULT, 10).await.unwrap();
        let after = visited(&schema).await;
        let (walked, fetched) = (after.0 - before.0, after.1 - before.1);
        assert!(walked == 0 && fetched <= 12 * 20, "{state}: {walked} walked, {fetched} fetched");
        schema.run("analyze workflow_runs").await.unwrap();
    }
}
