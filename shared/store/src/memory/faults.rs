//! What tests let go wrong.

use std::sync::Mutex;

use crate::StoreError;

/// Faults to come. Each is used up by the call that it hits.
#[derive(Default)]
pub struct Faults(Mutex<Planned>);

#[derive(Default)]
struct Planned {
    calls_to_fail: u32,
    appends_to_refuse: u32,
    turns_to_fail: u32,
    /// How many calls come before one that fails.
    calls_before_failure: Option<u32>,
    /// The answer of the next write gets lost; the flag says whether the write itself happens.
    lost_answer: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextWrite {
    Works,
    LostBeforeCommit,
    LostAfterCommit,
}

impl Faults {
    /// The next `calls` calls of any kind find the database away. Nothing is written by them.
    pub fn fail_next(&self, calls: u32) {
        let mut planned = self.planned();
        (planned.calls_to_fail, planned.calls_before_failure) = (calls, None);
    }

    /// The next write's answer is lost, as if the connection was cut at COMMIT: the caller is told that the
    /// database is away, and the write has happened, or not, as `applied` says.
    pub fn commit_unknown(&self, applied: bool) {
        self.planned().lost_answer = Some(applied);
    }

    /// The next `count` writes to runs are refused, as a database does that holds something impossible.
    pub fn refuse_appends(&self, count: u32) {
        self.planned().appends_to_refuse = count;
    }

    /// The next `calls` that ask for a turn under a rate limit find the database away.
    pub fn fail_turns(&self, calls: u32) {
        self.planned().turns_to_fail = calls;
    }

    /// One call finds the database away, after so many others.
    pub fn fail_after(&self, calls: u32) {
        self.planned().calls_before_failure = Some(calls);
    }

    pub(super) fn before_turn(&self) -> Result<(), StoreError> {
        if use_up(&mut self.planned().turns_to_fail) { Err(taken_away()) } else { Ok(()) }
    }

    pub(super) fn before_append(&self) -> Result<(), StoreError> {
        if use_up(&mut self.planned().appends_to_refuse) {
            return Err(StoreError::Refused("a test made it impossible".into()));
        }
        Ok(())
    }

    pub(super) fn before_read(&self) -> Result<(), StoreError> {
        let mut planned = self.planned();
        let before = planned.calls_before_failure;
        planned.calls_before_failure = before.and_then(|calls| calls.checked_sub(1));
        if use_up(&mut planned.calls_to_fail) || before == Some(0) { Err(taken_away()) } else { Ok(()) }
    }

    pub(super) fn before_write(&self) -> Result<NextWrite, StoreError> {
        self.before_read()?;
        Ok(match self.planned().lost_answer.take() {
            None => NextWrite::Works,
            Some(false) => NextWrite::LostBeforeCommit,
            Some(true) => NextWrite::LostAfterCommit,
        })
    }

    fn planned(&self) -> std::sync::MutexGuard<'_, Planned> {
        self.0.lock().expect("no panic while holding it")
    }
}

/// Whether there was one left.
fn use_up(count: &mut u32) -> bool {
    let is_left = *count > 0;
    *count = count.saturating_sub(1);
    is_left
}

fn taken_away() -> StoreError {
    StoreError::Unavailable("a test took the database away".into())
}

pub(super) fn lost_answer() -> StoreError {
    StoreError::Unavailable("the connection was cut while the commit was on its way".into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use windlass_model::SessionId;

    use crate::memory::MemoryStore;
    use crate::{Sessions, StoreError};

    fn session() -> SessionId {
        "0190ffff-0000-7000-8000-000000000001".parse().expect("a UUID")
    }

    #[tokio::test]
    async fn a_failing_store_does_nothing_and_recovers() {
        let store = MemoryStore::new();
        store.faults().fail_next(2);
        assert!(matches!(store.now().await, Err(StoreError::Unavailable(_))));
        let renewed = store.renew_session(session(), Duration::from_secs(1)).await;
        assert!(matches!(renewed, Err(StoreError::Unavailable(_))));
        assert!(store.tables.lock().unwrap().sessions.is_empty());
        store.now().await.unwrap();
    }

    #[tokio::test]
    async fn a_lost_answer_says_nothing_about_the_commit() {
        for applied in [false, true] {
            let store = MemoryStore::new();
            store.faults().commit_unknown(applied);
            store.now().await.unwrap();
            let renewed = store.renew_session(session(), Duration::from_secs(1)).await;
            assert!(matches!(renewed, Err(StoreError::Unavailable(_))));
            assert_eq!(!store.tables.lock().unwrap().sessions.is_empty(), applied);
            store.renew_session(session(), Duration::from_secs(1)).await.unwrap();
        }
    }
}
