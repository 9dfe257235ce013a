//! Sessions and the clock.

use std::time::Duration;

use windlass_model::RunStatus;

use super::Subject;
use super::subject::*;

pub async fn a_renewed_session_tells_the_time(subject: &Subject) {
    let before = subject.clock.now();
    let told = subject.store.renew_session(session(1), TTL).await.unwrap();
    assert!(told >= before && told <= subject.clock.now());
    let again = subject.store.renew_session(session(1), TTL).await.unwrap();
    assert!(again >= told);
    subject.store.close_session(session(1)).await.unwrap();
    // Ending what has ended is no error.
    subject.store.close_session(session(1)).await.unwrap();
}

pub async fn the_clock_moves(subject: &Subject) {
    let before = subject.store.now().await.unwrap();
    subject.clock.advance(Duration::from_secs(3_600));
    let after = subject.store.now().await.unwrap();
    assert!(before.until(after) >= Duration::from_secs(3_600));
}

pub async fn dead_sessions_without_runs_are_forgotten(subject: &Subject) {
    let age = Duration::from_secs(3_600);
    let mut hand = subject.held(1, 1).await;
    for n in 2..=4 {
        subject.renew(n).await;
    }
    assert_eq!(subject.store.clean_up(age, 100).await.unwrap(), 0);
    subject.clock.advance(TTL);
    subject.renew(4).await;
    // Session 1 still owns a run and session 4 lives; two are left, one at a time.
    assert_eq!(subject.store.clean_up(age, 1).await.unwrap(), 1);
    assert_eq!(subject.store.clean_up(age, 1).await.unwrap(), 1);
    assert_eq!(subject.store.clean_up(age, 1).await.unwrap(), 0);
    hand.projection.status = RunStatus::Completed;
    subject.write(&mut hand, vec![completed()]).await;
    assert_eq!(subject.store.clean_up(age, 100).await.unwrap(), 1);
}
