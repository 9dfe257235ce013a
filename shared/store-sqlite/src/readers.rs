//! The threads that read, each on a connection of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use windlass_model::Timestamp;
use windlass_store::{Clock, StoreError};

use crate::open::{self, OpenError};
use crate::queue::Queue;
use crate::sessions::OwnSessions;

/// Enough that a walk over a whole table leaves room for the small reads of the door.
const READERS: usize = 4;

pub(crate) type ReadJob = Box<dyn FnOnce(&Connection, Timestamp) + Send>;

pub(crate) struct Readers {
    queue: Arc<Queue<ReadJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn start(path: &Path, clock: Arc<Clock>, sessions: &OwnSessions) -> Result<Self, OpenError> {
        // Made first: when a later connection fails to open, dropping it ends the threads that run already.
        let mut readers = Self { queue: Arc::new(Queue::new()), threads: Vec::with_capacity(READERS) };
        for number in 1..=READERS {
            let connection = open::for_reading(path, sessions)?;
            let (queue, clock) = (readers.queue.clone(), clock.clone());
            let thread = std::thread::Builder::new()
                .name(format!("sqlite-reader-{number}"))
                .spawn(move || answer_reads(&connection, &queue, &clock))
                .map_err(OpenError::Thread)?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(crate) fn push(&self, job: ReadJob) -> Result<(), StoreError> {
        self.queue.push(job)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // Its panics were caught job by job.
            let _ = thread.join();
        }
    }
}

fn answer_reads(connection: &Connection, queue: &Queue<ReadJob>, clock: &Clock) {
    let mut jobs = Vec::with_capacity(1);
    while queue.take(1, &mut jobs) {
        for job in jobs.drain(..) {
            // The caller sees its channel closed; the connection holds no transaction that a rollback would not end.
            if catch_unwind(AssertUnwindSafe(|| job(connection, clock.now()))).is_err() {
                tracing::error!("A read of the database panicked");
            }
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("rollback");
            }
        }
    }
}
