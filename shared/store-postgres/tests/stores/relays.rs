//! Messages are delivered by one process at a time.

use std::time::Duration;

use serde_json::json;
use windlass_model::EventSeq;
use windlass_model::Payload;
use windlass_model::event::EventEmitted;
use windlass_store::conformance::MovableClock;
use windlass_store::{Outbox, OutboxMessage, OutboxSettlement, Store};
use windlass_store_postgres::PostgresStore;

use crate::hands::{Hand, definition, event, fresh_session};
use crate::subject::{DatabaseClock, Schema};

const LEASE: Duration = Duration::from_secs(60);

/// A run that tells the outside so many things.
async fn emit(store: &dyn Store, count: u32) {
    let version = definition(store).await;
    let hand = Hand::fresh(store, version, fresh_session()).await;
    let seqs = hand.next_seq..hand.next_seq + count;
    let body = || EventEmitted { kind: "told".into(), data: Payload::new(json!({})) };
    let mut write = hand.write(seqs.clone().map(|seq| event(seq, None, body())).collect());
    let message = |seq| OutboxMessage { seq: EventSeq(seq), topic: "told".into(), body: json!({"n": seq}) };
    write.outbox = seqs.map(message).collect();
    store.write_run(write).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_relay_has_taken_is_given_to_no_other_until_its_lease_is_over() {
    let schema = Schema::fresh().await;
    let clock = DatabaseClock::in_schema(&schema).await;
    let (one, two) =
        (PostgresStore::open(&schema.url).await.unwrap(), PostgresStore::open(&schema.url).await.unwrap());
    emit(&*one, 5).await;
    let first = one.take_outbox(3, LEASE).await.unwrap();
    let second = two.take_outbox(10, LEASE).await.unwrap();
    let ids = |rows: &[windlass_store::OutboxRow]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!((first.len(), second.len()), (3, 2));
    assert!(ids(&first).iter().chain(&ids(&second)).is_sorted(), "oldest first");
    assert_eq!(two.take_outbox(10, LEASE).await.unwrap(), []);
    let delivered = second.iter().map(|row| OutboxSettlement::Delivered { id: row.id }).collect();
    two.settle_outbox(delivered).await.unwrap();
    // The first one died on its way.
    clock.advance(LEASE);
    assert_eq!(ids(&two.take_outbox(10, LEASE).await.unwrap()), ids(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_take_at_the_same_moment_share() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    emit(&*store, 200).await;
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        takers.spawn(async move { store.take_outbox(40, LEASE).await.unwrap() });
    }
    let mut ids: Vec<i64> = takers.join_all().await.into_iter().flatten().map(|row| row.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "none is given out twice");
    while let rest = store.take_outbox(40, LEASE).await.unwrap()
        && !rest.is_empty()
    {
        ids.extend(rest.iter().map(|row| row.id));
    }
    assert_eq!(ids.len(), 200);
}
