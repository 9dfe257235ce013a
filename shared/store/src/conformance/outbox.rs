//! What leaves the database.

use std::time::Duration;

use serde_json::json;

use super::Subject;
use super::commands::emitted;
use super::subject::*;
use crate::{OutboxMessage, OutboxRow, OutboxSettlement};

/// Lets a run send one message of each topic.
async fn send(subject: &Subject, n: u32, topics: &[&str]) {
    let hand = subject.held(n, 1).await;
    let mut write = hand.write(topics.iter().map(|topic| emitted(topic)).collect());
    let message = |(event, topic): (&windlass_model::Event, &&str)| OutboxMessage {
        seq: event.seq,
        topic: (*topic).to_owned(),
        body: json!({"topic": topic, "n": n}),
    };
    write.outbox = write.events.iter().zip(topics).map(message).collect();
    subject.store.write_run(write).await.unwrap();
}

async fn waiting(subject: &Subject) -> Vec<OutboxRow> {
    subject.store.read_outbox(100).await.unwrap()
}

fn topics(rows: &[OutboxRow]) -> Vec<&str> {
    rows.iter().map(|row| row.message.topic.as_str()).collect()
}

pub async fn a_message_leaves_with_the_write_that_made_it_true(subject: &Subject) {
    assert_eq!(waiting(subject).await, []);
    let before = subject.clock.now();
    send(subject, 1, &["order.paid"]).await;
    let rows = waiting(subject).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.tenant, row.run_id, row.attempts), (TENANT, run_id(1), 0));
    assert_eq!((row.message.seq.0, row.message.topic.as_str()), (3, "order.paid"));
    assert_eq!(row.message.body, json!({"topic": "order.paid", "n": 1}));
    assert!(row.created_at >= before && row.created_at <= subject.clock.now());
    // Reading does not take it away.
    assert_eq!(waiting(subject).await, rows);
}

pub async fn delivered_messages_are_gone(subject: &Subject) {
    send(subject, 1, &["a", "b", "c"]).await;
    send(subject, 2, &["d"]).await;
    let rows = waiting(subject).await;
    assert_eq!(topics(&rows), ["a", "b", "c", "d"]);
    assert_eq!(topics(&subject.store.read_outbox(2).await.unwrap()), ["a", "b"]);
    let delivered = rows[..2].iter().map(|row| OutboxSettlement::Delivered { id: row.id }).collect();
    subject.store.settle_outbox(delivered).await.unwrap();
    assert_eq!(topics(&waiting(subject).await), ["c", "d"]);
}

pub async fn failed_messages_come_back_later(subject: &Subject) {
    send(subject, 1, &["a", "b"]).await;
    let id = waiting(subject).await[0].id;
    let retry_after = Duration::from_secs(30);
    let failed = || OutboxSettlement::Failed { id, error: "503".into(), retry_after };
    subject.store.settle_outbox(vec![failed()]).await.unwrap();
    assert_eq!(topics(&waiting(subject).await), ["b"]);
    subject.clock.advance(retry_after);
    let rows = waiting(subject).await;
    assert_eq!(topics(&rows), ["b", "a"]);
    assert_eq!((rows[1].id, rows[1].attempts), (id, 1));
    subject.store.settle_outbox(vec![failed()]).await.unwrap();
    subject.clock.advance(retry_after);
    assert_eq!(waiting(subject).await[1].attempts, 2);
}

pub async fn messages_that_are_given_up_stay_visible_as_damage(subject: &Subject) {
    send(subject, 1, &["a", "b"]).await;
    let id = waiting(subject).await[0].id;
    subject.store.settle_outbox(vec![OutboxSettlement::Dead { id, error: "410 gone".into() }]).await.unwrap();
    subject.clock.advance(Duration::from_secs(60));
    assert_eq!(topics(&waiting(subject).await), ["b"]);
    let damage = subject.store.find_damage(10).await.unwrap();
    assert_eq!(damage.len(), 1);
    assert_eq!(
        (damage[0].kind.as_str(), damage[0].subject.clone()),
        ("stuck_outbox", format!("{}@3", run_id(1)))
    );
    assert!(damage[0].detail.contains("410 gone"), "{}", damage[0].detail);
}

pub async fn settling_what_is_gone_is_no_error(subject: &Subject) {
    send(subject, 1, &["a"]).await;
    let id = waiting(subject).await[0].id;
    let delivered = || vec![OutboxSettlement::Delivered { id }];
    subject.store.settle_outbox(delivered()).await.unwrap();
    subject.store.settle_outbox(delivered()).await.unwrap();
    let failed = OutboxSettlement::Failed { id, error: String::new(), retry_after: Duration::ZERO };
    subject
        .store
        .settle_outbox(vec![failed, OutboxSettlement::Dead { id, error: String::new() }])
        .await
        .unwrap();
    subject.store.settle_outbox(Vec::new()).await.unwrap();
    assert_eq!(waiting(subject).await, []);
}
