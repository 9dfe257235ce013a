//! Writes that share a transaction share nothing else.

use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::event::{EngineTaken, StepSucceeded};
use windlass_model::payload::Blob;
use windlass_model::{Digest, EventSeq};
use windlass_store::conformance::MovableClock;
use windlass_store::{
    Guard, IdempotencyKey, Outbox, OutboxMessage, Remember, Reply, RunWrite, Runs, Sessions, StoreError,
    WriteError,
};
use windlass_store_postgres::PostgresStore;

use crate::hands::{Hand, TENANT, TTL, definition, event, fresh_id, fresh_session, new_run};
use crate::migrations::text;
use crate::subject::{DatabaseClock, Schema};

fn remember(key: &str) -> Remember {
    Remember {
        key: IdempotencyKey { principal: "user:ada".into(), route: "POST /".into(), key: key.into() },
        reply: Reply {
            request: Digest::of(b""),
            status: 200,
            body: serde_json::json!({"key": key}),
            location: None,
        },
    }
}

/// Every kind of trouble and every kind of extra, all at once, many times over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_every_trouble_harms_nobody_else() {
    const RUNS: usize = 120;
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let session = fresh_session();
    let mut hands = Vec::new();
    for _ in 0..RUNS {
        hands.push(Hand::fresh(&*store, version, session).await);
    }
    let mut tasks = JoinSet::new();
    for (n, mut hand) in hands.into_iter().enumerate() {
        let mut write = hand.tick();
        trouble(n, &hand, &mut write);
        let store = store.clone();
        tasks.spawn(async move { (n, hand.id, store.write_run(write).await) });
    }
    while let Some(task) = tasks.join_next().await {
        let (n, id, result) = task.unwrap();
        let is_as_it_should = match n % 10 {
            1 => matches!(result, Err(WriteError::Store(StoreError::Refused(_)))),
            2 => matches!(result, Err(WriteError::Fenced)),
            3 => matches!(result, Err(WriteError::Moved)),
            _ => result.is_ok(),
        };
        assert!(is_as_it_should, "{n}: {result:?}");
        let events = store.load_run(TENANT, id).await.unwrap().unwrap().events.len();
        assert_eq!(events, if result.is_ok() { 4 } else { 2 }, "{n}");
        if n % 10 == 3 || n % 10 == 4 {
            let kept = store.find_reply(TENANT, &remember(&n.to_string()).key).await.unwrap();
            assert_eq!(kept.is_some(), n % 10 == 4, "{n}");
        }
    }
    let sent = store.read_outbox(1_000).await.unwrap();
    assert_eq!(sent.len(), RUNS / 10, "of those that failed, nothing is sent");
    assert_eq!(windlass_store::Integrity::find_damage(&*store, 1_000).await.unwrap(), []);
}

fn trouble(n: usize, hand: &Hand, write: &mut RunWrite) {
    let message =
        |topic: &str| OutboxMessage { seq: EventSeq(3), topic: topic.into(), body: serde_json::json!(n) };
    match n % 10 {
        // A second outcome of one attempt: the database itself refuses it.
        1 => {
            write.events[0] = event(3, Some(hand.attempt), StepSucceeded::default());
            write.outbox.push(message("refused"));
        }
        2 => {
            let Guard::Engine(fence) = &mut write.guard else { unreachable!("an engine's hand") };
            fence.epoch.0 += 1;
            write.outbox.push(message("fenced"));
        }
        3 => {
            write.version.0 += 1;
            write.remember = Some(remember(&n.to_string()));
        }
        4 => write.remember = Some(remember(&n.to_string())),
        5 => write.outbox.push(message("sent")),
        6 => {
            // Content that several writes of one group bring along.
            let blob = Blob::new(b"the same for all".to_vec());
            let output = windlass_model::Payload::new(serde_json::json!("x".repeat(70_000)));
            let own = output.new_blob();
            write.events[1] =
                event(4, Some(hand.attempt), StepSucceeded { output, artifacts: vec![artifact(&blob)] });
            write.blobs = vec![blob];
            write.blobs.extend(own);
        }
        _ => {}
    }
}

fn artifact(blob: &Blob) -> windlass_model::event::Artifact {
    windlass_model::event::Artifact {
        name: "log".into(),
        media_type: "text/plain".into(),
        blob: blob.reference(),
    }
}

/// A claim begins, a command commits, the claim reads: whatever the order, the history is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_reads_what_was_written_while_it_ran() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
    for round in 0..30 {
        let next = fresh_session();
        store.renew_session(next, Duration::from_secs(60)).await.unwrap();
        // The holder writes on while its lease is taken away.
        let writer = {
            let (store, mut hand) = (store.clone(), hand.clone());
            tokio::spawn(async move {
                let mut written = 0;
                while store.write_run(hand.tick()).await.is_ok() {
                    written += 1;
                }
                written
            })
        };
        store.close_session(hand.fence.session).await.unwrap();
        let taken = loop {
            if let Some(taken) = store.claim_run(hand.id, next, Duration::from_secs(60)).await.unwrap() {
                break taken;
            }
        };
        writer.await.unwrap();
        let seqs: Vec<_> = taken.events.iter().map(|event| event.seq.0).collect();
        assert_eq!(seqs, (1..taken.row.next_seq.0).collect::<Vec<_>>(), "round {round}");
        let last = taken.events.last().unwrap();
        assert_eq!(last.body, EngineTaken { session: next }.into());
        hand = Hand { attempt: 1_000 * (round + 1), ..Hand::of(&taken.row) };
    }
}

/// A worker that froze while it wrote holds its rows; claims of other runs go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_writer_does_not_stop_other_claims() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let stuck = Hand::fresh(&*store, version, fresh_session()).await;
    store.close_session(stuck.fence.session).await.unwrap();
    let other = Hand::fresh(&*store, version, fresh_session()).await;
    store.close_session(other.fence.session).await.unwrap();

    let pool = schema.pool().await;
    let mut writer = pool.begin().await.unwrap();
    sqlx::query("update workflow_runs set next_seq = next_seq where id = $1")
        .bind(stuck.id.0)
        .execute(&mut *writer)
        .await
        .unwrap();
    let session = fresh_session();
    store.renew_session(session, Duration::from_secs(60)).await.unwrap();
    let claim = |id| store.claim_run(id, session, Duration::from_secs(60));
    let (of_stuck, of_other) = tokio::join!(claim(stuck.id), claim(other.id));
    assert!(of_stuck.unwrap().is_none());
    assert!(of_other.unwrap().is_some());
    writer.rollback().await.unwrap();
    assert!(claim(stuck.id).await.unwrap().is_some());
}

/// Of a newer Windlass, or damaged: this one must not sit on it, and others must have theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_be_read_is_put_off() {
    let schema = Schema::fresh().await;
    let clock = DatabaseClock::in_schema(&schema).await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let session = fresh_session();
    store.renew_session(session, TTL).await.unwrap();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = new_run(fresh_id(), version);
        runs.push(run.id);
        store.create_run(run).await.unwrap();
    }
    let strange = runs[1];
    let sql = format!(
        "insert into workflow_run_events (run_id, at, seq, code, data) values ('{strange}', now(), 2, 9999, '{{}}');
         update workflow_runs set next_seq = 3 where id = '{strange}'"
    );
    schema.run(sql).await.unwrap();

    let claim = |id| store.claim_run(id, session, TTL);
    let (first, second, third) = tokio::join!(claim(runs[0]), claim(strange), claim(runs[2]));
    assert!(first.unwrap().is_some() && third.unwrap().is_some());
    assert!(matches!(second, Err(StoreError::Damaged(_))), "{second:?}");
    let row = store.get_run(TENANT, strange).await.unwrap().unwrap();
    assert_eq!((row.lease_owner, row.wake_at.is_some()), (None, true));
    assert!(claim(strange).await.unwrap().is_none());
    clock.advance(Duration::from_secs(31));
    assert!(claim(strange).await.is_err());
}

/// A transaction that failed holds locks until it is rolled back, and the connection may rest for hours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_locked_after_a_failure() {
    let schema = Schema::fresh().await;
    let store = PostgresStore::open(&schema.url).await.unwrap();
    let version = definition(&*store).await;
    let mut hand = Hand::fresh(&*store, version, fresh_session()).await;
    store.write_run(hand.tick()).await.unwrap();
    // Alone in its group, with extras, and refused by the database itself.
    let mut second = hand.clone().tick();
    trouble(1, &hand, &mut second);
    second.events[0].seq = EventSeq(hand.next_seq);
    second.events[1].seq = EventSeq(hand.next_seq + 1);
    let refused = store.write_run(second).await.unwrap_err();
    assert!(matches!(refused, WriteError::Store(StoreError::Refused(_))), "{refused:?}");
    let open = "select count(*)::text from pg_stat_activity a join pg_locks l using (pid)
                 where l.relation = 'workflow_runs'::regclass and a.state <> 'active'";
    assert_eq!(text(&schema, open).await, "0");
    store.write_run(hand.tick()).await.unwrap();
}
