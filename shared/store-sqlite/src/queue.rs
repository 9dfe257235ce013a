//! Jobs on their way from async callers to the threads that own connections.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, Thread};

use windlass_store::StoreError;

/// Jobs that may wait. Whoever comes later is told that the database is away, instead of filling memory.
const JOBS_WAITING_MAX: usize = 65_536;

pub(crate) struct Queue<Job> {
    waiting: Mutex<Waiting<Job>>,
}

struct Waiting<Job> {
    jobs: VecDeque<Job>,
    /// Threads that sleep. The last to fall asleep is the first to be woken: what it needs is warm still, and when there
    /// is little to do one thread does all of it.
    asleep: Vec<Thread>,
    is_closed: bool,
}

impl<Job> Queue<Job> {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { jobs: VecDeque::new(), asleep: Vec::new(), is_closed: false }) }
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
        let sleeper = waiting.asleep.pop();
        drop(waiting);
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
        Ok(())
    }

    /// Waits for jobs and takes up to `limit` of them. False when the queue is closed and empty.
    pub(crate) fn take(&self, limit: usize, into: &mut Vec<Job>) -> bool {
        let me = thread::current();
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() && !waiting.is_closed {
            waiting.asleep.push(me.clone());
            drop(waiting);
            thread::park();
            waiting = self.lock();
            // A thread may wake without being woken.
            waiting.asleep.retain(|it| it.id() != me.id());
        }
        let count = waiting.jobs.len().min(limit);
        into.extend(waiting.jobs.drain(..count));
        !into.is_empty()
    }

    /// What waits is still done; nothing more is taken in.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.asleep.drain(..).for_each(|it| it.unpark());
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Job>> {
        self.waiting.lock().expect("no panic while holding it")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    /// Threads that say who they are for each job.
    fn serving(threads: usize) -> (Arc<Queue<()>>, mpsc::Receiver<thread::ThreadId>) {
        let (queue, (served, by)) = (Arc::new(Queue::new()), mpsc::channel());
        for _ in 0..threads {
            let (queue, served) = (queue.clone(), served.clone());
            thread::spawn(move || {
                let mut jobs = Vec::new();
                while queue.take(1, &mut jobs) {
                    jobs.drain(..).for_each(|()| served.send(thread::current().id()).unwrap());
                }
            });
        }
        (queue, by)
    }

    fn wait_until_asleep(queue: &Queue<()>, threads: usize) {
        while queue.lock().asleep.len() < threads {
            thread::yield_now();
        }
    }

    #[test]
    fn what_comes_one_by_one_is_done_by_one_thread() {
        let (queue, by) = serving(3);
        let mut seen = Vec::new();
        for _ in 0..20 {
            wait_until_asleep(&queue, 3);
            queue.push(()).unwrap();
            seen.push(by.recv().unwrap());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1);
        queue.close();
    }

    #[test]
    fn nothing_that_was_pushed_is_left_and_a_closed_queue_lets_everybody_go() {
        const JOBS: usize = 20_000;
        let (queue, by) = serving(4);
        for _ in 0..JOBS {
            queue.push(()).unwrap();
        }
        queue.close();
        assert!(queue.push(()).is_err());
        // The receiver ends when the last thread has ended.
        assert_eq!(by.iter().count(), JOBS);
    }
}
