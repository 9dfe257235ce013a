//! Two writers, one rule: what the guards let through.

use windlass_model::event::{
    ApprovalRequested, EventEmitted, RunPaused, RunResumed, SkipReason, StepLost, StepSkipped,
};
use windlass_model::payload::Blob;
use windlass_model::{Digest, Epoch, PauseReason, Payload, RunStatus};

use super::Subject;
use super::subject::*;
use crate::{ApprovalChange, ApprovalFilter, Fence, Guard, OutboxMessage, WriteError};

pub async fn a_write_on_an_older_version_is_moved(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let (late_engine, late_door) = (hand.clone(), Hand::door(&hand.row));
    subject.write(&mut hand, vec![started(0, 1)]).await;
    let before = subject.record(1).await;
    let engine = subject.store.write_run(late_engine.write(vec![started(1, 1)])).await;
    assert!(matches!(engine, Err(WriteError::Moved)), "{engine:?}");
    let door = subject.store.write_run(late_door.write(vec![paused()])).await;
    assert!(matches!(door, Err(WriteError::Moved)), "{door:?}");
    let mut gone = late_door.clone();
    gone.row.id = run_id(9);
    let gone = subject.store.write_run(gone.write(vec![paused()])).await;
    assert!(matches!(gone, Err(WriteError::Moved)), "{gone:?}");
    let after = subject.record(1).await;
    assert_eq!((after.row, after.events), (before.row, before.events));
}

pub async fn a_write_of_another_session_or_epoch_is_fenced(subject: &Subject) {
    let hand = subject.held(1, 1).await;
    let before = subject.row(1).await;
    let mine = hand.fence();
    let strangers = [
        Fence { session: session(2), ..mine },
        Fence { epoch: Epoch(mine.epoch.0 + 1), ..mine },
        Fence { epoch: Epoch(mine.epoch.0 - 1), ..mine },
    ];
    for fence in strangers {
        // With the right version and with a wrong one: the lease counts first.
        for version in [before.version.0, before.version.0 + 1] {
            let mut stranger = hand.clone();
            stranger.guard = Guard::Engine(fence);
            stranger.row.version.0 = version;
            let result = subject.store.write_run(stranger.write(vec![started(0, 1)])).await;
            assert!(matches!(result, Err(WriteError::Fenced)), "{fence:?}: {result:?}");
        }
    }
    let mut gone = hand.clone();
    gone.row.id = run_id(9);
    let gone = subject.store.write_run(gone.write(vec![started(0, 1)])).await;
    assert!(matches!(gone, Err(WriteError::Fenced)), "{gone:?}");
    assert_eq!(subject.row(1).await, before);
}

pub async fn nothing_is_written_to_a_run_that_has_ended(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    hand.projection.status = RunStatus::Completed;
    subject.write(&mut hand, vec![completed()]).await;
    let before = subject.row(1).await;
    let engine = subject.store.write_run(hand.write(vec![started(0, 1)])).await;
    assert!(matches!(engine, Err(WriteError::Fenced)), "{engine:?}");
    let door = subject.store.write_run(Hand::door(&before).write(vec![paused()])).await;
    assert!(matches!(door, Err(WriteError::Moved)), "{door:?}");
    assert_eq!(subject.row(1).await, before);
}

pub async fn events_that_do_not_follow_the_log_are_refused(subject: &Subject) {
    let hand = subject.held(1, 1).await;
    let before = subject.record(1).await;
    for guard in [hand.guard, Guard::Door] {
        let mut hand = hand.clone();
        hand.guard = guard;
        for shift in [-1, 1, 2] {
            let mut write = hand.write(vec![started(0, 1), started(1, 1)]);
            for event in &mut write.events {
                event.seq.0 = event.seq.0.checked_add_signed(shift).unwrap();
            }
            let result = subject.store.write_run(write).await;
            assert!(is_refused(&result), "shifted by {shift}: {result:?}");
        }
        let mut gap = hand.write(vec![started(0, 1), started(1, 1)]);
        gap.events[1].seq.0 += 1;
        let result = subject.store.write_run(gap).await;
        assert!(is_refused(&result), "{result:?}");
    }
    let after = subject.record(1).await;
    assert_eq!((after.row, after.events), (before.row, before.events));
}

pub async fn an_attempt_has_one_outcome(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    subject.write(&mut hand, vec![started(0, 1), succeeded(0, 1)]).await;
    let before = subject.record(1).await;
    for twice in [
        vec![failed(0, 1)],
        vec![succeeded(0, 1)],
        vec![to_step(0, 1, StepLost { retry: true })],
        vec![started(0, 2), failed(0, 2), succeeded(0, 2)],
        vec![Happened { item: Some(3), ..succeeded(0, 2) }, Happened { item: Some(3), ..failed(0, 2) }],
    ] {
        let result = subject.store.write_run(hand.write(twice)).await;
        assert!(is_refused(&result), "{result:?}");
    }
    let after = subject.record(1).await;
    assert_eq!((after.row, after.events), (before.row, before.events));

    let skip = || Happened { attempt: None, ..to_step(2, 0, StepSkipped { reason: SkipReason::Need }) };
    let others = vec![
        succeeded(0, 2),
        succeeded(1, 1),
        Happened { item: Some(0), ..succeeded(0, 1) },
        Happened { item: Some(1), ..succeeded(0, 1) },
        skip(),
        // Without an attempt there is nothing to be the outcome of.
        skip(),
    ];
    subject.write(&mut hand, others).await;
}

pub async fn a_run_ends_once(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let before = subject.record(1).await;
    hand.projection.status = RunStatus::Completed;
    let twice = subject.store.write_run(hand.write(vec![completed(), completed()])).await;
    assert!(is_refused(&twice), "{twice:?}");
    let after = subject.record(1).await;
    assert_eq!((after.row, after.events), (before.row, before.events));
}

pub async fn a_release_alone_counts_as_a_write(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    hand.projection.status = RunStatus::Waiting;
    let before = subject.row(1).await;
    let mut write = hand.write(Vec::new());
    write.release = true;
    subject.store.write_run(write.clone()).await.unwrap();
    let after = subject.row(1).await;
    assert_eq!((after.version.0, after.next_seq), (before.version.0 + 1, before.next_seq));
    assert_eq!((after.lease_owner, after.epoch, after.status), (None, before.epoch, RunStatus::Waiting));
    let again = subject.store.write_run(write).await;
    assert!(matches!(again, Err(WriteError::Fenced)), "{again:?}");
}

pub async fn the_door_cannot_let_a_held_run_go(subject: &Subject) {
    let hand = subject.held(1, 1).await;
    let mut write = Hand::door(&hand.row).write(vec![paused()]);
    write.release = true;
    subject.store.write_run(write).await.unwrap();
    let row = subject.row(1).await;
    assert_eq!((row.lease_owner, row.epoch), (Some(session(1)), hand.row.epoch));
}

pub async fn a_command_on_a_held_run_is_seen_by_its_holder(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    subject.held(2, 1).await;
    subject.write(&mut hand, vec![started(0, 1)]).await;
    assert_eq!(subject.moved(1).await, []);

    let mut door = Hand::door(&subject.row(1).await);
    subject.write(&mut door, vec![paused()]).await;
    assert_eq!(subject.moved(1).await, [run_id(1)]);
    assert_eq!(subject.moved(2).await, []);

    // The holder reads what it missed, and its own next write says that it has.
    let mut hand = Hand::engine(&subject.row(1).await);
    subject.write(&mut hand, vec![succeeded(0, 1)]).await;
    assert_eq!(subject.moved(1).await, []);
}

pub async fn a_command_on_a_parked_run_makes_it_claimable(subject: &Subject) {
    let parked = subject.parked(1, 1, projection(RunStatus::Waiting)).await;
    assert!(subject.claim(1, 1).await.is_none());
    let mut door = Hand::door(&parked);
    door.projection.status = RunStatus::Queued;
    subject.write(&mut door, vec![to_run(RunResumed {})]).await;
    assert_eq!(subject.moved(1).await, []);
    assert!(subject.claim(1, 1).await.is_some());
}

pub async fn a_refused_write_leaves_nothing_behind(subject: &Subject) {
    let hand = subject.held(1, 1).await;
    let mut late = hand.clone();
    late.row.version.0 -= 1;
    let mut twice = hand.clone();
    twice.projection.status = RunStatus::Completed;
    let blob = Blob::new(b"never kept".to_vec());
    for (hand, bodies) in [(late, vec![asked()]), (twice, vec![asked(), completed(), completed()])] {
        let mut write = hand.write(bodies);
        write.blobs = vec![blob.clone()];
        write.remember = Some(remember("never"));
        write.outbox =
            vec![OutboxMessage { seq: write.events[0].seq, topic: "never".into(), body: true.into() }];
        write.approvals = vec![ApprovalChange::Opened {
            node: "gate".into(),
            attempt: 1,
            seq: write.events[0].seq,
            expires_at: None,
        }];
        subject.store.write_run(write).await.unwrap_err();
    }
    let store = &subject.store;
    assert_eq!(store.get_blob(TENANT, &blob.digest).await.unwrap(), None);
    assert_eq!(store.find_reply(TENANT, &remember("never").key).await.unwrap(), None);
    assert_eq!(store.read_outbox(10).await.unwrap(), []);
    assert_eq!(store.list_approvals(TENANT, &ApprovalFilter::default(), None, 10).await.unwrap(), []);
}

fn paused() -> Happened {
    to_run(RunPaused { reason: PauseReason::Requested, message: None })
}

fn asked() -> Happened {
    to_step(
        0,
        1,
        ApprovalRequested { show: Payload::null(), digest: Digest::of(b""), expires_at: None, rule: None },
    )
}

/// What a step sends to the outside.
pub(super) fn emitted(kind: &str) -> Happened {
    to_step(0, 1, EventEmitted { kind: kind.into(), data: Payload::null() })
}
