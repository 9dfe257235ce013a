//! The one thread that writes, and how it commits many jobs at once.
//!
//! While a commit is on its way to the disk, further jobs queue up; the next commit takes them all. No
//! timer and no waiting for a batch to fill: one job alone is committed at once, and under load the
//! price of a flush is shared by everyone who waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;
use windlass_model::Timestamp;
use windlass_store::{Clock, StoreError, WriteError};

use crate::fault::{Fault, store_error};
use crate::open::OpenError;
use crate::queue::Queue;

/// Jobs in one commit. More gains little, and all of them wait for the slowest.
const GROUP_MAX: usize = 128;

pub(crate) struct Writer {
    queue: Arc<Queue<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// Something to be written, and somebody to be told.
pub(crate) trait Job: Send {
    /// Does it. False when whatever it wrote must be undone.
    fn run(&mut self, connection: &Connection, now: Timestamp) -> bool;

    /// Tells the outcome: the job's own, or that the commit failed.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
}

/// Wraps `work`, and gives the end of the channel where its answer will arrive.
pub(crate) fn job<T, W>(work: W) -> (Box<dyn Job>, oneshot::Receiver<Result<T, WriteError>>)
where
    T: Send + 'static,
    W: FnOnce(&Connection, Timestamp) -> Result<T, Fault> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Typed { work: Some(work), result: None, reply }), answer)
}

struct Typed<T, W> {
    work: Option<W>,
    result: Option<Result<T, WriteError>>,
    reply: oneshot::Sender<Result<T, WriteError>>,
}

impl<T, W> Job for Typed<T, W>
where
    T: Send,
    W: FnOnce(&Connection, Timestamp) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Connection, now: Timestamp) -> bool {
        let Some(work) = self.work.take() else { return false };
        let result = catch_unwind(AssertUnwindSafe(|| work(connection, now))).unwrap_or_else(|_| {
            tracing::error!("A write to the database panicked");
            Err(Fault::refused("the write panicked"))
        });
        let is_good = result.is_ok();
        self.result = Some(result.map_err(Fault::into_write));
        is_good
    }

    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        let result = match (commit, self.result) {
            // Refused jobs, too: what stood in their way may have been undone with the rest.
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Refused("the write was never run".into()).into()),
        };
        // A caller that is gone changes nothing.
        let _ = self.reply.send(result);
    }
}

impl Writer {
    pub(crate) fn start(connection: Connection, clock: Arc<Clock>) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::new());
        let jobs = queue.clone();
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                let mut group = Vec::with_capacity(GROUP_MAX);
                while jobs.take(GROUP_MAX, &mut group) {
                    write_group(&connection, &clock, &mut group);
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(crate) fn push(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        self.queue.push(job)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // Its panics were caught job by job.
            let _ = thread.join();
        }
    }
}

/// One transaction for the whole group; every job in it stands or falls alone.
fn write_group(connection: &Connection, clock: &Clock, group: &mut Vec<Box<dyn Job>>) {
    let commit = run_group(connection, clock, group);
    if let Err(error) = &commit {
        tracing::error!(error = %error, jobs = group.len(), "A commit failed");
        if !connection.is_autocommit() {
            // When even this fails, the next `begin` says so to the next group.
            let _ = connection.execute_batch("rollback");
        }
    }
    let failure = commit.err().map(|error| error.to_string());
    for job in group.drain(..) {
        job.answer(match &failure {
            None => Ok(()),
            Some(error) => Err(StoreError::Unavailable(error.clone().into())),
        });
    }
}

fn run_group(connection: &Connection, clock: &Clock, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let run = |sql: &str| -> Result<(), StoreError> {
        let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
        statement.execute([]).map(drop).map_err(store_error)
    };
    run("begin immediate")?;
    if let [alone] = group {
        // Alone, it needs no savepoint: the transaction itself is undone.
        return match alone.run(connection, clock.now()) {
            true => run("commit"),
            // On a full disk or a failing one SQLite has undone it by itself.
            false if connection.is_autocommit() => Ok(()),
            false => run("rollback"),
        };
    }
    for job in group {
        run("savepoint job")?;
        let is_good = job.run(connection, clock.now());
        if connection.is_autocommit() {
            // SQLite has undone the whole transaction, not only this job.
            return Err(StoreError::Unavailable("the transaction was undone by a failing job".into()));
        }
        if !is_good {
            run("rollback to job")?;
        }
        run("release job")?;
    }
    run("commit")
}
