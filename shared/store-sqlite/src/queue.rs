//! Jobs on their way from async callers to the threads that own connections.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use windlass_store::StoreError;

/// Jobs that may wait. Whoever comes later is told that the database is away, instead of filling memory.
const JOBS_WAITING_MAX: usize = 65_536;

pub(crate) struct Queue<Job> {
    waiting: Mutex<Waiting<Job>>,
    /// Somebody pushed, or closed.
    stirred: Condvar,
}

struct Waiting<Job> {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl<Job> Queue<Job> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting { jobs: VecDeque::new(), is_closed: false }),
            stirred: Condvar::new(),
        }
    }

    pub(crate) fn push(&self, job: Job) -> Result<(), StoreError> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(StoreError::Unavailable("the database is being closed".into()));
        }
        if waiting.jobs.len() >= JOBS_WAITING_MAX {
            return Err(StoreError::Unavailable(format!("{JOBS_WAITING_MAX} jobs wait already").into()));
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.stirred.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes up to `limit` of them. False when the queue is closed and empty.
    pub(crate) fn take(&self, limit: usize, into: &mut Vec<Job>) -> bool {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() && !waiting.is_closed {
            waiting = self.stirred.wait(waiting).expect("no panic while holding it");
        }
        let count = waiting.jobs.len().min(limit);
        into.extend(waiting.jobs.drain(..count));
        !into.is_empty()
    }

    /// What waits is still done; nothing more is taken in.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.stirred.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Job>> {
        self.waiting.lock().expect("no panic while holding it")
    }
}
