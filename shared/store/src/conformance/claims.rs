//! Who holds a run, and when somebody else may take it.

use std::sync::Arc;
use std::time::Duration;

use windlass_model::event::{EngineTaken, EventBody};
use windlass_model::{Epoch, PauseReason, RunStatus, Timestamp};

use super::Subject;
use super::runs::state;
use super::subject::*;
use crate::{Projection, WriteError};

pub async fn a_claim_says_who_took_the_run(subject: &Subject) {
    let before = subject.create(1).await;
    subject.clock.advance(Duration::from_millis(5));
    subject.renew(1).await;
    let claimed = subject.claim(1, 1).await.unwrap();
    let row = &claimed.row;
    assert_eq!((row.lease_owner, row.epoch), (Some(session(1)), Epoch(1)));
    assert_eq!((row.version.0, row.next_seq.0), (before.version.0 + 1, before.next_seq.0 + 1));
    assert_eq!(row.status, RunStatus::Running);
    assert!(row.last_activity_at > before.last_activity_at);

    let taken = claimed.events.last().unwrap();
    assert_eq!(taken.body, EventBody::from(EngineTaken { session: session(1) }));
    assert_eq!((taken.seq, taken.epoch, &taken.actor), (before.next_seq, Some(Epoch(1)), &None));
    assert_eq!((taken.node, taken.item, taken.attempt), (None, None, None));
    // The row says what the fold will say.
    assert_eq!(row.started_at, Some(taken.at));
    assert_eq!(row.last_activity_at, taken.at);
    assert_eq!(*row, subject.row(1).await);
}

pub async fn a_claim_hands_over_the_history(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let mut write = hand.write(vec![started(0, 1)]);
    write.snapshot = Some(Arc::new(state(&write)));
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);
    subject.write(&mut hand, vec![succeeded(0, 1), started(1, 1)]).await;
    let started_at = subject.row(1).await.started_at;
    subject.store.close_session(session(1)).await.unwrap();

    let claimed = subject.claim(1, 2).await.unwrap();
    assert_eq!(claimed.snapshot.unwrap().last_seq.0, 3);
    let names: Vec<_> = claimed.events.iter().map(|event| (event.seq.0, event.body.name())).collect();
    assert_eq!(names, [(4, "step.succeeded"), (5, "step.started"), (6, "run.engine_taken")]);
    assert_eq!((claimed.row.epoch, claimed.row.started_at), (Epoch(2), started_at));
}

pub async fn of_many_claims_at_once_one_succeeds(subject: &Subject) {
    for n in 1..=20 {
        subject.create(n).await;
        let claims: Vec<_> = (1..=10)
            .map(|by| {
                let store = subject.store.clone();
                tokio::spawn(
                    async move { store.claim_run(run_id(n), session(by), STALE_AFTER).await.unwrap() },
                )
            })
            .collect();
        for by in 1..=10 {
            subject.renew(by).await;
        }
        let mut taken = Vec::new();
        for claim in claims {
            taken.extend(claim.await.unwrap());
        }
        // Before its session was registered the first holder counted as dead, so others may have followed;
        // each took the run from the one before.
        let mut epochs: Vec<_> = taken.iter().map(|record| record.row.epoch.0).collect();
        epochs.sort_unstable();
        assert_eq!(epochs, (1..=taken.len() as u32).collect::<Vec<_>>());
        assert!(subject.claim(n, 1).await.is_none());
    }
    // With living sessions there is exactly one.
    subject.create(100).await;
    let claims: Vec<_> = (1..=10)
        .map(|by| {
            let store = subject.store.clone();
            tokio::spawn(async move { store.claim_run(run_id(100), session(by), STALE_AFTER).await.unwrap() })
        })
        .collect();
    let mut taken = 0;
    for claim in claims {
        taken += u32::from(claim.await.unwrap().is_some());
    }
    assert_eq!((taken, subject.row(100).await.epoch), (1, Epoch(1)));
}

pub async fn what_waits_for_people_is_not_claimed(subject: &Subject) {
    subject.parked(1, 1, projection(RunStatus::Waiting)).await;
    let paused = Projection { paused_reason: Some(PauseReason::Requested), ..projection(RunStatus::Paused) };
    subject.parked(2, 1, paused).await;
    for n in [1, 2] {
        let before = subject.row(n).await;
        assert!(subject.claim(n, 1).await.is_none());
        assert!(subject.claim(n, 2).await.is_none());
        assert_eq!(subject.row(n).await, before);
    }
}

pub async fn what_waits_for_a_time_is_claimed_when_it_has_come(subject: &Subject) {
    let wake_at = subject.clock.now().plus(Duration::from_secs(30));
    let waiting = Projection { wake_at: Some(wake_at), ..projection(RunStatus::Waiting) };
    let paused = Projection {
        paused_reason: Some(PauseReason::Requested),
        wake_at: Some(wake_at),
        ..projection(RunStatus::Paused)
    };
    subject.parked(1, 1, waiting).await;
    subject.parked(2, 1, paused).await;
    subject.clock.advance(Duration::from_secs(25));
    assert!(subject.claim(1, 1).await.is_none());
    assert!(subject.claim(2, 1).await.is_none());
    subject.clock.advance(Duration::from_secs(5));
    assert_eq!(subject.claim(1, 1).await.unwrap().row.status, RunStatus::Running);
    assert_eq!(subject.claim(2, 1).await.unwrap().row.status, RunStatus::Paused);
}

pub async fn a_paused_or_canceling_run_stays_what_it_is(subject: &Subject) {
    // It waits for its children until there is something to do.
    subject.parked(1, 1, projection(RunStatus::Canceling)).await;
    assert!(subject.claim(1, 1).await.is_none());
    let due = Projection { wake_at: Some(subject.clock.now()), ..projection(RunStatus::Canceling) };
    let mut door = Hand::door(&subject.row(1).await);
    door.projection = Projection { started_at: door.projection.started_at, ..due };
    subject.write(&mut door, vec![]).await;
    assert_eq!(subject.claim(1, 1).await.unwrap().row.status, RunStatus::Canceling);

    let mut hand = subject.held(2, 1).await;
    hand.projection.status = RunStatus::Paused;
    hand.projection.paused_reason = Some(PauseReason::Requested);
    subject.write(&mut hand, vec![started(0, 1)]).await;
    subject.store.close_session(session(1)).await.unwrap();
    let row = subject.claim(2, 2).await.unwrap().row;
    assert_eq!((row.status, row.paused_reason), (RunStatus::Paused, Some(PauseReason::Requested)));
}

pub async fn a_compensating_run_is_claimed_when_its_time_has_come(subject: &Subject) {
    let mut waits = projection(RunStatus::Compensating);
    waits.wake_at = Some(subject.clock.now().plus(Duration::from_secs(30)));
    subject.parked(1, 1, waits).await;
    assert!(subject.claim(1, 1).await.is_none(), "it waits for its next attempt");
    subject.clock.advance(Duration::from_secs(31));
    let due = subject.store.find_due(session(1), Duration::ZERO, STALE_AFTER, 10).await.unwrap();
    assert_eq!(due.runs.len(), 1);
    assert_eq!(subject.claim(1, 1).await.unwrap().row.status, RunStatus::Compensating);
}

pub async fn a_run_that_has_ended_is_never_claimed(subject: &Subject) {
    for (n, status) in [(1, RunStatus::Completed), (2, RunStatus::Failed), (3, RunStatus::Canceled)] {
        let mut hand = subject.held(n, 1).await;
        hand.projection.status = status;
        hand.projection.wake_at = Some(Timestamp(0));
        subject.write(&mut hand, vec![completed()]).await;
        subject.clock.advance(STALE_AFTER * 2);
        assert!(subject.claim(n, 2).await.is_none(), "{status:?}");
    }
}

pub async fn a_run_of_a_living_session_is_not_claimed(subject: &Subject) {
    subject.held(1, 1).await;
    subject.clock.advance(TTL - Duration::from_secs(1));
    subject.renew(1).await;
    subject.clock.advance(TTL - Duration::from_secs(1));
    assert!(subject.claim(1, 2).await.is_none());
    // Not by its own session either: it has it already.
    assert!(subject.claim(1, 1).await.is_none());
}

pub async fn a_run_of_a_dead_session_is_claimed(subject: &Subject) {
    let mut expired = subject.held(1, 1).await;
    subject.held(2, 2).await;
    // A session that nobody has registered is dead, too.
    subject.create(3).await;
    assert!(subject.claim(3, 9).await.is_some());

    subject.clock.advance(TTL);
    subject.renew(2).await;
    subject.store.close_session(session(2)).await.unwrap();
    subject.renew(3).await;
    for n in 1..=3 {
        let taken = subject.claim(n, 3).await.expect("its session is dead");
        assert_eq!((taken.row.epoch, taken.row.lease_owner), (Epoch(2), Some(session(3))));
    }
    // Coming back does not help.
    subject.renew(1).await;
    expired.row = subject.row(1).await;
    let late = subject.store.write_run(expired.write(vec![started(0, 1)])).await;
    assert!(matches!(late, Err(WriteError::Fenced)), "{late:?}");
}

pub async fn a_silent_run_is_claimed_although_its_session_lives(subject: &Subject) {
    subject.held(1, 1).await;
    subject.clock.advance(STALE_AFTER - TTL / 2);
    subject.renew(1).await;
    assert!(subject.claim(1, 2).await.is_none());
    subject.clock.advance(TTL / 2 + Duration::from_micros(1));
    subject.renew(1).await;
    assert_eq!(subject.claim(1, 2).await.unwrap().row.epoch, Epoch(2));
}

pub async fn a_touched_run_is_not_silent(subject: &Subject) {
    let hand = subject.held(1, 1).await;
    let before = subject.row(1).await;
    subject.clock.advance(STALE_AFTER);
    subject.renew(1).await;
    assert!(subject.store.touch_run(run_id(1), hand.fence()).await.unwrap());
    subject.clock.advance(Duration::from_secs(1));
    assert!(subject.claim(1, 2).await.is_none());
    // A sign of life is no write: the holder's next one still fits.
    let after = subject.row(1).await;
    assert!(after.last_activity_at > before.last_activity_at);
    assert_eq!((after.version, after.next_seq), (before.version, before.next_seq));
}

pub async fn who_lost_the_lease_can_neither_touch_nor_write(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let lost = hand.fence();
    subject.store.close_session(session(1)).await.unwrap();
    subject.renew(2).await;
    let taken = subject.claim(1, 2).await.unwrap();
    assert!(!subject.store.touch_run(run_id(1), lost).await.unwrap());
    // Not even when it knows the version.
    hand.row = taken.row.clone();
    let late = subject.store.write_run(hand.write(vec![started(0, 1)])).await;
    assert!(matches!(late, Err(WriteError::Fenced)), "{late:?}");
    assert_eq!(subject.row(1).await, taken.row);

    let mut end = Hand::engine(&taken.row);
    end.projection.status = RunStatus::Completed;
    subject.write(&mut end, vec![completed()]).await;
    assert!(!subject.store.touch_run(run_id(1), end.fence()).await.unwrap());
    assert!(!subject.store.touch_run(run_id(9), end.fence()).await.unwrap());
}
