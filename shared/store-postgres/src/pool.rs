//! Connections for everything that does not travel in groups.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use windlass_store::{StoreError, WriteError};

use crate::fault::Fault;
use crate::line::{self, ANSWER_MAX, CONNECT_MAX, Line, Purpose, Server};

/// A walk over everything may take its time.
const WALK_MAX: Duration = Duration::from_secs(30 * 60);

/// Connections of one purpose. Each is opened when it is first needed, and stays.
pub(crate) struct Pool {
    lines: Arc<Lines>,
}

struct Lines {
    server: Server,
    purpose: Purpose,
    /// Free connections, those that are not open yet among them.
    places: Semaphore,
    /// The one that was used last comes first: it is trusted, and the others may rest.
    idle: Mutex<Vec<Line>>,
}

/// Something to be done on a connection.
pub(crate) trait Work<T>:
    for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static
{
}

impl<T, F> Work<T> for F where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + 'static
{
}

impl Pool {
    pub(crate) fn new(server: &Server, purpose: Purpose, connections_max: u32) -> Self {
        let places = Semaphore::new(connections_max.max(1) as usize);
        Self { lines: Arc::new(Lines { server: server.clone(), purpose, places, idle: Mutex::default() }) }
    }

    /// Runs `work`, which is one statement, in a task of its own: a caller that goes away leaves neither a
    /// transaction half done nor a connection half read.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T, WriteError> {
        let lines = self.lines.clone();
        finish(tokio::spawn(async move { lines.run(work).await }).await)
    }

    /// As [`Pool::run`], in a transaction, which is undone when `work` fails.
    pub(crate) async fn run_whole<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T, WriteError> {
        self.run(move |connection| {
            Box::pin(async move {
                let mut transaction = Connection::begin(connection).await?;
                let done = work(&mut transaction).await?;
                transaction.commit().await?;
                Ok(done)
            })
        })
        .await
    }

    /// For what no guard can refuse.
    pub(crate) async fn ask<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T, StoreError> {
        self.run(work).await.map_err(|error| Fault::Write(error).into_store())
    }

    /// As [`Pool::ask`], for looking up text from outside. What cannot be stored is nowhere to be found.
    pub(crate) async fn find<T: Default + Send + 'static>(
        &self,
        work: impl Work<T>,
    ) -> Result<T, StoreError> {
        self.ask(|db| {
            Box::pin(async move {
                match work(db).await {
                    Err(fault) if fault.is_unstorable() => Ok(T::default()),
                    done => done,
                }
            })
        })
        .await
    }

    /// A long walk, at one moment, on a connection of its own.
    pub(crate) async fn walk<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T, StoreError> {
        let server = self.lines.server.clone();
        let task = tokio::spawn(async move {
            let mut connection = line::connect(&server.options, Purpose::Walk).await?;
            line::within(WALK_MAX, async {
                let mut moment =
                    connection.begin_with("begin isolation level repeatable read read only").await?;
                work(&mut moment).await
            })
            .await
        });
        finish(task.await).map_err(|error| Fault::Write(error).into_store())
    }
}

impl Lines {
    async fn run<T>(&self, work: impl Work<T>) -> Result<T, Fault> {
        let place = timeout(CONNECT_MAX, self.places.acquire()).await;
        let _place = match place {
            Ok(place) => place.expect("nobody closes it"),
            Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
        };
        let rested = self.idle().pop();
        let mut line = rested.unwrap_or_else(|| Line::new(&self.server, self.purpose));
        let done = match line.connection().await {
            Ok(connection) => line::within(ANSWER_MAX, work(connection)).await,
            Err(error) => Err(error.into()),
        };
        if let Err(fault) = &done {
            line.clear_up(fault).await;
        }
        self.idle().push(line);
        done
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        self.idle.lock().expect("no panic while holding it")
    }
}

fn finish<T>(task: Result<Result<T, Fault>, tokio::task::JoinError>) -> Result<T, WriteError> {
    match task {
        Ok(done) => done.map_err(Fault::into_write),
        Err(error) if error.is_panic() => Err(StoreError::Refused(Box::new(error)).into()),
        Err(error) => Err(StoreError::Unavailable(Box::new(error)).into()),
    }
}
