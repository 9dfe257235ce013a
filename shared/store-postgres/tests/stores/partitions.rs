//! The log lies in partitions by month, and stays usable whatever becomes of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windlass_model::RunId;
use windlass_store::conformance::MovableClock;
use windlass_store::{Runs, Sessions};
use windlass_store_postgres::PostgresStore;

use crate::hands::{Hand, TENANT, definition, fresh_session, new_run};
use crate::migrations::text;
use crate::subject::{DatabaseClock, Schema};

/// No month is longer, so that this later is always another month.
const MONTH: Duration = Duration::from_secs(31 * 24 * 60 * 60);

async fn partitions(schema: &Schema) -> u32 {
    let sql = "select count(*)::text from pg_inherits where inhparent = 'workflow_run_events'::regclass";
    text(schema, sql).await.parse().unwrap()
}

async fn events_in_default(schema: &Schema) -> u32 {
    text(schema, "select count(*)::text from workflow_run_events_default").await.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_ahead_of_time() {
    let schema = Schema::fresh().await;
    let clock = DatabaseClock::in_schema(&schema).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    // This month, two to come, and the one for all others.
    assert_eq!(partitions(&schema).await, 4);
    store.clean_up(MONTH, 10).await.unwrap();
    assert_eq!(partitions(&schema).await, 4);
    clock.advance(MONTH);
    store.clean_up(MONTH, 10).await.unwrap();
    let made = partitions(&schema).await - 4;
    assert!(
        (1..=2).contains(&made),
        "the end of January and the beginning of March lie two months apart: {made}"
    );
    // After a long sleep the months between are not made up for.
    clock.advance(100 * MONTH);
    store.clean_up(MONTH, 10).await.unwrap();
    assert_eq!(partitions(&schema).await, 4 + made + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_lies_in_the_month_in_which_its_run_was_made() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
    store.write_run(hand.tick()).await.unwrap();
    assert_eq!(events_in_default(&schema).await, 0);
    let partition = "select distinct tableoid::regclass::text from workflow_run_events";
    let this_month = "select 'workflow_run_events_' || to_char(now() at time zone 'UTC', 'YYYYMM')";
    assert_eq!(text(&schema, partition).await, text(&schema, this_month).await);
    // Guards hold in partitions that were attached.
    let refused = schema.run("delete from workflow_run_events").await.unwrap_err();
    assert!(refused.to_string().contains("is not forgotten"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_without_a_month_have_a_log_all_the_same() {
    let schema = Schema::fresh().await;
    let clock = DatabaseClock::in_schema(&schema).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    // Made by chance instead of time, and made by a clock that is a year ahead.
    let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + 12 * MONTH;
    let made_at = |time: Duration| {
        let time = uuid::Timestamp::from_unix_time(time.as_secs(), 0, 0, 0);
        new_run(RunId(uuid::Uuid::new_v7(time)), version)
    };
    for run in [new_run(RunId(uuid::Uuid::new_v4()), version), made_at(later)] {
        let id = run.id;
        store.create_run(run).await.unwrap();
        assert_eq!(store.load_run(TENANT, id).await.unwrap().unwrap().events.len(), 1);
    }
    assert_eq!(events_in_default(&schema).await, 2);
    // When its month comes near, that month stays in the default partition, and the others are made.
    clock.advance(11 * MONTH);
    store.clean_up(MONTH, 10).await.unwrap();
    assert_eq!((partitions(&schema).await, events_in_default(&schema).await), (6, 2));
    store.create_run(made_at(later)).await.unwrap();
    assert_eq!(events_in_default(&schema).await, 3);
    store.create_run(made_at(later - MONTH)).await.unwrap();
    assert_eq!(events_in_default(&schema).await, 3);
}
