//! The death of a process is seen sooner than its sessions end, and nobody else is taken for dead.

use std::time::{Duration, Instant};

use windlass_store::conformance::MovableClock;
use windlass_store::{Runs, Sessions};
use windlass_store_postgres::PostgresStore;

use crate::hands::{Hand, definition, fresh_session};
use crate::migrations::text;
use crate::subject::{DatabaseClock, Schema};

const TTL: Duration = Duration::from_secs(1_000);
const STALE_AFTER: Duration = Duration::from_secs(100_000);

/// Sessions whose lock is on record.
const SHOWN: &str = "select count(*)::text from worker_sessions where liveness is not null";

/// Renews until the sessions' locks are on record.
async fn shows_life(
    schema: &Schema,
    store: &PostgresStore,
    session: windlass_model::SessionId,
    sessions: &str,
) {
    let began = Instant::now();
    while text(schema, SHOWN).await != sessions {
        assert!(began.elapsed() < Duration::from_secs(10), "the lock is not taken");
        store.renew_session(session, TTL).await.unwrap();
    }
}

async fn due(store: &PostgresStore) -> usize {
    store.find_due(fresh_session(), Duration::ZERO, STALE_AFTER, 10).await.unwrap().runs.len()
}

#[test]
fn the_runs_of_a_dead_process_are_due_at_once() {
    let living = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dying = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (schema, store, clock) = living.block_on(async {
        let schema = Schema::fresh().await;
        let clock = DatabaseClock::in_schema(&schema).await;
        let store = PostgresStore::open(&schema.url).await.unwrap();
        (schema, store, clock)
    });
    let url = schema.url.clone();
    let doomed = dying.block_on(async { PostgresStore::open(&url).await.unwrap() });
    let hand = dying.block_on(async {
        let version = definition(&*doomed).await;
        let hand = Hand::fresh(&*doomed, version, fresh_session()).await;
        shows_life(&schema, &doomed, hand.fence.session, "1").await;
        hand
    });
    living.block_on(async {
        let survivor = fresh_session();
        shows_life(&schema, &store, survivor, "2").await;
        // Long enough for whoever has lost the server to have come back.
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        clock.advance(TTL / 2);
        assert_eq!(due(&store).await, 0, "a process that renews seldom is not dead");
    });
    // No goodbye: sockets are closed by whoever cleans up after a killed process.
    dying.shutdown_background();
    living.block_on(async {
        let began = Instant::now();
        while due(&store).await == 0 {
            // A lonely process would look no sooner than this.
            assert!(began.elapsed() < Duration::from_secs(2), "its death is not seen");
        }
        let session = fresh_session();
        store.renew_session(session, TTL).await.unwrap();
        let taken = store.claim_run(hand.id, session, STALE_AFTER).await.unwrap();
        assert_eq!(taken.expect("its session has ended").row.lease_owner, Some(session));
    });
    drop(doomed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_lost_a_connection_is_not_taken_for_dead() {
    let server = servers::Postgres::start();
    let schema = Schema::on(&server.url()).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let judge = PostgresStore::open(&schema.url).await.unwrap();
    let hand = Hand::fresh(&*store, version, fresh_session()).await;
    shows_life(&schema, &store, hand.fence.session, "1").await;
    shows_life(&schema, &judge, fresh_session(), "2").await;
    let cut =
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'windlass liveness'";
    schema.run(cut).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        store.renew_session(hand.fence.session, Duration::from_secs(2)).await.unwrap();
        assert_eq!(due(&judge).await, 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(text(&schema, SHOWN).await, "2", "the lock was taken again");
    let held = "select count(*)::text from pg_locks where locktype = 'advisory' and granted";
    assert_eq!(text(&schema, held).await, "4", "by both connections of both processes");
}
