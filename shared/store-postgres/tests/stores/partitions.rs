//! The log lies in partitions by week, and stays usable whatever becomes of them.

use std::time::Duration;

use windlass_store::conformance::MovableClock;
use windlass_store::{Runs, Sessions};
use windlass_store_postgres::PostgresStore;

use crate::hands::{Hand, TENANT, definition, fresh_session, new_run};
use crate::migrations::text;
use crate::subject::{DatabaseClock, Schema};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const COUNT: &str =
    "select count(*)::text from pg_inherits where inhparent = 'workflow_run_events'::regclass";
const IN_DEFAULT: &str = "select count(*)::text from workflow_run_events_default";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_ahead_of_time() {
    let schema = Schema::fresh().await;
    let clock = DatabaseClock::in_schema(&schema).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    // This week, four to come, and the one for all others.
    assert_eq!(text(&schema, COUNT).await, "6");
    store.clean_up(WEEK, 10).await.unwrap();
    assert_eq!(text(&schema, COUNT).await, "6");
    clock.advance(2 * WEEK);
    store.clean_up(WEEK, 10).await.unwrap();
    assert_eq!(text(&schema, COUNT).await, "8");
    // After a long sleep the weeks between are not made up for.
    clock.advance(100 * WEEK);
    store.clean_up(WEEK, 10).await.unwrap();
    assert_eq!(text(&schema, COUNT).await, "13");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_lies_in_the_week_in_which_its_run_was_made() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
    store.write_run(hand.tick()).await.unwrap();
    assert_eq!(text(&schema, IN_DEFAULT).await, "0");
    let partition = "select distinct tableoid::regclass::text from workflow_run_events";
    let this_week =
        "select 'workflow_run_events_' || to_char(date_trunc('week', now() at time zone 'UTC'), 'YYYYMMDD')";
    assert_eq!(text(&schema, partition).await, text(&schema, this_week).await);
    // Guards hold in partitions that were attached.
    let refused = schema.run("delete from workflow_run_events").await.unwrap_err();
    assert!(refused.to_string().contains("is not forgotten"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_without_a_week_have_a_log_all_the_same() {
    let schema = Schema::fresh().await;
    let clock = DatabaseClock::in_schema(&schema).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    // Made by chance instead of time, and made by a clock that is twenty weeks ahead.
    let later = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + 20 * WEEK;
    let context = uuid::Timestamp::from_unix_time(later.as_secs(), 0, 0, 0);
    for id in [uuid::Uuid::new_v4(), uuid::Uuid::new_v7(context)] {
        let run = new_run(windlass_model::RunId(id), version);
        let id = run.id;
        store.create_run(run).await.unwrap();
        assert_eq!(store.load_run(TENANT, id).await.unwrap().unwrap().events.len(), 1);
    }
    assert_eq!(text(&schema, IN_DEFAULT).await, "2");
    // When its week comes near, that week stays in the default partition, and the others are made.
    clock.advance(18 * WEEK);
    store.clean_up(WEEK, 10).await.unwrap();
    assert_eq!(text(&schema, COUNT).await, "10");
    assert_eq!(text(&schema, IN_DEFAULT).await, "2");
    let mut other = new_run(windlass_model::RunId(uuid::Uuid::new_v7(context)), version);
    store.create_run(other.clone()).await.unwrap();
    assert_eq!(text(&schema, IN_DEFAULT).await, "3");
    other.id.0 = uuid::Uuid::new_v7(uuid::Timestamp::from_unix_time((later - WEEK).as_secs(), 0, 0, 0));
    store.create_run(other).await.unwrap();
    assert_eq!(text(&schema, IN_DEFAULT).await, "3");
}
