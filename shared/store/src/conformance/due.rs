//! What the sweep finds.

use std::time::Duration;

use windlass_model::{PauseReason, Priority, Ring, RunStatus, Timestamp};

use super::Subject;
use super::subject::*;
use crate::{DueRun, Projection};

const HORIZON: Duration = Duration::from_secs(10);

async fn due(subject: &Subject) -> Vec<DueRun> {
    subject.store.find_due(session(1), HORIZON, STALE_AFTER, 100).await.unwrap().runs
}

async fn due_ids(subject: &Subject) -> Vec<windlass_model::RunId> {
    due(subject).await.into_iter().map(|due| due.ring.run_id).collect()
}

pub async fn what_waits_for_an_engine_is_due(subject: &Subject) {
    subject.create(1).await;
    let wake_at = Some(subject.clock.now());
    subject.parked(2, 1, Projection { wake_at, ..projection(RunStatus::Canceling) }).await;
    subject.parked(3, 1, projection(RunStatus::Waiting)).await;
    let paused = Projection { paused_reason: Some(PauseReason::Requested), ..projection(RunStatus::Paused) };
    subject.parked(4, 1, paused).await;
    subject.held(5, 1).await;
    let mut ended = subject.held(6, 1).await;
    ended.projection.status = RunStatus::Completed;
    subject.write(&mut ended, vec![completed()]).await;
    let expected = [1, 2].map(|n| DueRun {
        ring: Ring { run_id: run_id(n), tenant: TENANT, priority: Priority::Normal },
        after: Duration::ZERO,
    });
    assert_eq!(due(subject).await, expected);
}

pub async fn what_is_due_soon_is_named_with_its_time(subject: &Subject) {
    let now = subject.clock.now();
    for (n, seconds) in [(1, 30), (2, 300)] {
        let wake_at = Some(now.plus(Duration::from_secs(seconds)));
        subject.parked(n, 1, Projection { wake_at, ..projection(RunStatus::Waiting) }).await;
    }
    assert_eq!(due(subject).await, []);
    subject.clock.advance(Duration::from_secs(25));
    let soon = due(subject).await;
    assert_eq!(soon.len(), 1);
    assert_eq!(soon[0].ring.run_id, run_id(1));
    assert!(soon[0].after > Duration::ZERO && soon[0].after <= Duration::from_secs(5), "{:?}", soon[0].after);
    subject.clock.advance(Duration::from_secs(5));
    assert_eq!(due(subject).await[0].after, Duration::ZERO);
    // A run with work to do does not wait for its timer.
    let queued = Projection { wake_at: Some(now.plus(STALE_AFTER)), ..projection(RunStatus::Queued) };
    subject.parked(3, 1, queued).await;
    assert!(due(subject).await.iter().any(|due| due.ring.run_id == run_id(3) && due.after.is_zero()));
}

pub async fn runs_of_dead_sessions_and_silent_ones_are_due(subject: &Subject) {
    subject.held(1, 1).await;
    subject.held(2, 2).await;
    assert_eq!(due_ids(subject).await, []);
    subject.clock.advance(TTL);
    subject.renew(2).await;
    assert_eq!(due_ids(subject).await, [run_id(1)]);
    subject.clock.advance(STALE_AFTER);
    subject.renew(1).await;
    subject.renew(2).await;
    assert_eq!(due_ids(subject).await, [run_id(1), run_id(2)]);
    let fence = Hand::engine(&subject.row(1).await).fence();
    assert!(subject.store.touch_run(run_id(1), fence).await.unwrap());
    assert_eq!(due_ids(subject).await, [run_id(2)]);
}

pub async fn due_runs_come_by_priority_then_age(subject: &Subject) {
    let version = subject.definition().await;
    let priorities = [Priority::Low, Priority::Normal, Priority::High, Priority::Normal, Priority::High];
    for (n, priority) in (1..).zip(priorities) {
        subject.store.create_run(crate::NewRun { priority, ..new_run(n, version) }).await.unwrap();
    }
    // Two that are due for other reasons take their places among them; one that is not yet due comes last.
    subject.parked(6, 1, Projection { wake_at: Some(Timestamp(5)), ..projection(RunStatus::Waiting) }).await;
    let soon = Some(subject.clock.now().plus(HORIZON / 2));
    subject.parked(7, 1, Projection { wake_at: soon, ..projection(RunStatus::Waiting) }).await;
    subject.held(8, 2).await;
    subject.store.close_session(session(2)).await.unwrap();
    let expected = [3, 5, 2, 4, 6, 8, 1, 7].map(run_id);
    assert_eq!(due_ids(subject).await, expected);
}

pub async fn no_more_than_the_limit_is_due_and_the_most_urgent_first(subject: &Subject) {
    let version = subject.definition().await;
    for n in 1..=9 {
        let priority = if n == 9 { Priority::High } else { Priority::Normal };
        subject.store.create_run(crate::NewRun { priority, ..new_run(n, version) }).await.unwrap();
    }
    let some = subject.store.find_due(session(1), HORIZON, STALE_AFTER, 3).await.unwrap().runs;
    assert_eq!(some.iter().map(|due| due.ring.run_id).collect::<Vec<_>>(), [9, 1, 2].map(run_id));
    assert_eq!(subject.store.find_due(session(1), HORIZON, STALE_AFTER, 0).await.unwrap().runs, []);
}

pub async fn tenants_take_turns(subject: &Subject) {
    let (ours, theirs) = (subject.definition().await, subject.definition_of(OTHER_TENANT, "theirs").await);
    for n in 1..=6 {
        subject.store.create_run(new_run(n, ours)).await.unwrap();
    }
    for n in 7..=8 {
        let run = crate::NewRun { tenant: OTHER_TENANT, ..new_run(n, theirs) };
        subject.store.create_run(run).await.unwrap();
    }
    let urgent = crate::NewRun { priority: Priority::High, ..new_run(9, ours) };
    subject.store.create_run(urgent).await.unwrap();
    assert_eq!(due_ids(subject).await, [9, 1, 7, 2, 8, 3, 4, 5, 6].map(run_id));
    let some = subject.store.find_due(session(1), HORIZON, STALE_AFTER, 3).await.unwrap().runs;
    assert_eq!(some.iter().map(|due| due.ring.run_id).collect::<Vec<_>>(), [9, 1, 7].map(run_id));
}

pub async fn runs_are_counted_by_status_and_the_oldest_claimable_is_timed(subject: &Subject) {
    let counts = subject.store.count_runs().await.unwrap();
    assert!(counts.by_status.is_empty() && counts.oldest_claimable.is_none());

    subject.held(1, 1).await;
    subject.parked(2, 1, projection(RunStatus::Waiting)).await;
    assert_eq!(subject.store.count_runs().await.unwrap().oldest_claimable, None);
    subject.create(3).await;
    subject.clock.advance(Duration::from_secs(3));
    subject.create(4).await;
    let counts = subject.store.count_runs().await.unwrap();
    assert_eq!(
        counts.by_status.into_iter().collect::<Vec<_>>(),
        [(RunStatus::Queued, 2), (RunStatus::Running, 1), (RunStatus::Waiting, 1)]
    );
    assert_about(counts.oldest_claimable, Duration::from_secs(3));

    // A run of a dead session waits since the session ended, a timer since its time.
    for n in [3, 4] {
        subject.renew(2).await;
        subject.claim(n, 2).await.unwrap();
    }
    let wake_at = Some(subject.clock.now().plus(Duration::from_secs(1)));
    subject.parked(5, 2, Projection { wake_at, ..projection(RunStatus::Waiting) }).await;
    subject.clock.advance(Duration::from_secs(4));
    subject.renew(2).await;
    assert_about(subject.store.count_runs().await.unwrap().oldest_claimable, Duration::from_secs(3));
    subject.claim(5, 2).await.unwrap();
    // Session 1 was renewed for the last time seven seconds ago.
    assert_about(subject.store.count_runs().await.unwrap().oldest_claimable, Duration::from_secs(2));
}

fn assert_about(age: Option<Duration>, expected: Duration) {
    let age = age.expect("something waits");
    assert!(
        age >= expected && age < expected + Duration::from_millis(900),
        "{age:?} is not about {expected:?}"
    );
}
