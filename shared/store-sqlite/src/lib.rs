//! The store port on SQLite: one file that one process owns.
//!
//! One thread writes, on one connection, and takes whatever is queued into one commit ([`writer`]); a few
//! threads read beside it ([`readers`]). Callers only await an answer, so a dropped future leaves no trace.
//! Statements lie in `queries/`, named after the method of the port that they serve.

mod blobs;
mod callees;
mod circuits;
mod claim;
mod create_run;
mod fault;
mod groups;
mod integrity;
mod list_runs;
mod migrate;
mod open;
mod outbox;
mod owner;
#[cfg(test)]
mod query_plans;
mod queue;
mod rate_limits;
mod readers;
mod repair;
mod replies;
mod rows;
mod runs;
mod schedules;
mod sessions;
mod workflows;
mod write_run;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;
use windlass_model::Timestamp;
use windlass_store::{Clock, StoreError, WriteError};

use fault::Fault;
pub use open::OpenError;
use owner::OwnerLock;
use readers::Readers;
use sessions::OwnSessions;
use writer::Writer;

/// An open database.
pub struct SqliteStore {
    // Dropped in this order: the last jobs are done and the connections closed before the lock is let go.
    writer: Option<Writer>,
    readers: Readers,
    clock: Arc<Clock>,
    sessions: OwnSessions,
    _owner: Option<OwnerLock>,
}

impl SqliteStore {
    /// Opens a database as its only owner: makes the file when there is none, brings its schema up to date,
    /// and declares every older worker session dead, because none can have survived.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for people.
    pub fn open(path: &Path) -> Result<Arc<Self>, OpenError> {
        Self::open_with_clock(path, Arc::new(Clock::system()))
    }

    /// Opens a database whose leases and timers go by this clock.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_with_clock(path: &Path, clock: Arc<Clock>) -> Result<Arc<Self>, OpenError> {
        let owner = OwnerLock::take(path)?;
        let sessions = OwnSessions::default();
        let connection = open::owned(path, &sessions)?;
        let writer = Writer::start(connection, clock.clone())?;
        let readers = Readers::start(path, clock.clone(), &sessions)?;
        Ok(Arc::new(Self { writer: Some(writer), readers, clock, sessions, _owner: Some(owner) }))
    }

    /// Opens a database to look at it, beside the process that owns it. Every write is refused.
    ///
    /// # Errors
    /// [`OpenError`] when there is no database, or its schema is not the one that this Windlass knows.
    pub fn open_read_only(path: &Path) -> Result<Arc<Self>, OpenError> {
        let sessions = OwnSessions::default();
        migrate::check_current(&open::for_reading(path, &sessions)?)?;
        let clock = Arc::new(Clock::system());
        let readers = Readers::start(path, clock.clone(), &sessions)?;
        Ok(Arc::new(Self { writer: None, readers, clock, sessions, _owner: None }))
    }

    /// The clock that leases and timers of this database go by.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Runs `work` on a reader's connection; several statements need a transaction of their own.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.readers.push(Box::new(move |connection, now| {
            // Nobody may be waiting any more.
            let _ = reply.send(work(connection, now).map_err(Fault::into_store));
        }))?;
        answer.await.map_err(|_| StoreError::Refused("the read panicked".into()))?
    }

    /// Runs `work` in the writer's transaction, perhaps twice, and answers after the commit.
    async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, WriteError> {
        let Some(writer) = &self.writer else {
            return Err(StoreError::Refused("the database was opened to be read".into()).into());
        };
        let (job, answer) = writer::job(work);
        writer.push(job)?;
        answer.await.map_err(|_| StoreError::Unavailable("the writer has stopped".into()))?
    }

    /// For writes that no guard can refuse.
    async fn write_always<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write(work).await.map_err(|error| match error {
            WriteError::Store(error) => error,
            other => StoreError::Refused(Box::new(other)),
        })
    }
}

/// The text of a query, by its name in `queries/`.
macro_rules! query {
    ($name:literal) => {
        include_str!(concat!("queries/", $name, ".sql"))
    };
}
pub(crate) use query;
