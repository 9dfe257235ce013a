//! Many writers at once.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::event::{RunPaused, SignalReceived};
use windlass_model::{EventSeq, PauseReason, Payload, RunStatus};

use super::Subject;
use super::subject::*;
use crate::{Guard, NewRun, WriteError};

pub async fn ten_thousand_writes_at_once_are_all_answered(subject: &Subject) {
    const RUNS: u32 = 1_000;
    const RIVALS: u16 = 10;
    let hands = subject.all_held(RUNS, 1).await;
    let mut tasks = JoinSet::new();
    for attempt in 1..=RIVALS {
        for hand in &hands {
            let store = subject.store.clone();
            let write = hand.write(vec![started(0, attempt), succeeded(0, attempt)]);
            tasks.spawn(async move { (write.run_id, store.write_run(write).await) });
        }
    }
    let mut written = BTreeSet::new();
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            (run_id, Ok(())) => assert!(written.insert(run_id), "{run_id} was written twice"),
            (_, Err(error)) => assert!(matches!(error, WriteError::Moved), "{error:?}"),
        }
    }
    assert_eq!(written.len(), RUNS as usize);
    for n in [1, RUNS / 2, RUNS] {
        let record = subject.record(n).await;
        assert_eq!((record.events.len(), record.row.version.0, record.row.next_seq.0), (4, 3, 5));
    }
    assert_eq!(subject.store.find_damage(10).await.unwrap(), []);
}

pub async fn runs_that_move_side_by_side_lose_nothing(subject: &Subject) {
    const RUNS: u32 = 100;
    const WRITES: u32 = 40;
    let mut tasks = JoinSet::new();
    for mut hand in subject.all_held(RUNS, 1).await {
        let store = subject.store.clone();
        tasks.spawn(async move {
            for attempt in 1..=WRITES as u16 {
                let write = hand.write(vec![started(0, attempt), succeeded(0, attempt)]);
                store.write_run(write.clone()).await.unwrap();
                hand.wrote(&write);
            }
        });
    }
    tasks.join_all().await;
    for n in 1..=RUNS {
        let record = subject.record(n).await;
        let seqs: Vec<_> = record.events.iter().map(|event| event.seq.0).collect();
        assert_eq!(seqs, (1..=2 + 2 * WRITES).collect::<Vec<_>>());
        assert_eq!((record.row.version.0, record.row.next_seq.0), (2 + WRITES, 3 + 2 * WRITES));
    }
}

pub async fn a_lost_fence_harms_no_other_run(subject: &Subject) {
    let mut hands = subject.all_held(60, 1).await;
    hands.sort_by_key(|hand| hand.row.id);
    // Every third has lost its lease, every fifth has a gap in its events.
    let mut tasks = JoinSet::new();
    for (n, hand) in (1..).zip(hands) {
        let store = subject.store.clone();
        let mut write = hand.write(vec![started(0, 1), succeeded(0, 1)]);
        if n % 3 == 0 {
            let Guard::Engine(fence) = &mut write.guard else { unreachable!("an engine's hand") };
            fence.epoch.0 += 1;
        } else if n % 5 == 0 {
            write.events[1].seq.0 += 1;
        }
        tasks.spawn(async move { (n, store.write_run(write).await) });
    }
    while let Some(task) = tasks.join_next().await {
        let (n, result) = task.unwrap();
        let written = subject.record(n).await.events.len() as u32;
        match n {
            n if n % 3 == 0 => assert!(matches!(result, Err(WriteError::Fenced)), "{n}: {result:?}"),
            n if n % 5 == 0 => assert!(is_refused(&result), "{n}: {result:?}"),
            _ => assert!(result.is_ok(), "{n}: {result:?}"),
        }
        assert_eq!(written, if result.is_ok() { 4 } else { 2 }, "run {n}");
    }
}

pub async fn writes_of_two_engines_never_mix(subject: &Subject) {
    let mut old = subject.held(1, 1).await;
    let store = subject.store.clone();
    let writer = tokio::spawn(async move {
        for attempt in 1..=u16::MAX {
            let write = old.write(vec![started(0, attempt)]);
            match store.write_run(write.clone()).await {
                Ok(()) => old.wrote(&write),
                Err(error) => return error,
            }
        }
        panic!("the old engine was never stopped");
    });
    while subject.row(1).await.next_seq < EventSeq(20) {
        tokio::task::yield_now().await;
    }
    subject.store.close_session(session(1)).await.unwrap();
    subject.renew(2).await;
    let taken = subject.claim(1, 2).await.expect("its session is dead");
    let error = writer.await.unwrap();
    assert!(matches!(error, WriteError::Fenced), "{error:?}");
    subject.write(&mut Hand::engine(&taken.row), vec![started(1, 1)]).await;

    let epochs: Vec<_> = subject.record(1).await.events.iter().filter_map(|event| event.epoch).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
    assert_eq!(subject.store.find_damage(10).await.unwrap(), []);
}

pub async fn of_many_commands_at_once_one_is_first(subject: &Subject) {
    let row = subject.create(1).await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let store = subject.store.clone();
        let paused = to_run(RunPaused { reason: PauseReason::Requested, message: None });
        let write = Hand::door(&row).write(vec![paused]);
        tasks.spawn(async move { store.write_run(write).await });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            Ok(()) => done += 1,
            Err(error) => assert!(matches!(error, WriteError::Moved), "{error:?}"),
        }
    }
    assert_eq!((done, subject.record(1).await.events.len()), (1, 2));
}

pub async fn a_dropped_write_happens_as_a_whole_or_not_at_all(subject: &Subject) {
    for n in 1..=100 {
        let hand = subject.held(n, 1).await;
        let signal = |name: &str| to_run(SignalReceived { name: name.into(), payload: Payload::null() });
        let write = hand.write(vec![signal("a"), signal("b"), signal("c")]);
        // A client hangs up: sometimes before the write was begun, sometimes while it is under way.
        let patience = Duration::from_micros(u64::from(n % 10) * 40);
        let _ = tokio::time::timeout(patience, subject.store.write_run(write)).await;
        // Nobody else's write is lost by it.
        let other = subject.held(n + 1_000, 1).await;
        subject.write(&mut { other }, vec![started(0, 1)]).await;
        let record = subject.record(n).await;
        let count = record.events.len() as u32;
        assert!(count == 2 || count == 5, "{count} events");
        assert_eq!(record.row.next_seq.0, count + 1);
        assert_eq!(record.row.version.0, if count == 2 { 2 } else { 3 });
    }
}

pub async fn creates_at_once_are_all_there(subject: &Subject) {
    let version = subject.definition().await;
    let mut tasks = JoinSet::new();
    for n in 1..=300 {
        let store = subject.store.clone();
        let mut run = NewRun { remember: Some(remember(&n.to_string())), ..new_run(n, version) };
        run.labels.insert("n".into(), n.to_string());
        tasks.spawn(async move { store.create_run(run).await });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap().unwrap();
    }
    let counts = subject.store.count_runs().await.unwrap();
    assert_eq!(counts.by_status[&RunStatus::Queued], 300);
}
