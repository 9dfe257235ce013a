//! The connections for everything that does not travel in groups.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use windlass_store::{StoreError, WriteError};

use crate::fault::Fault;
use crate::line::{self, ANSWER_MAX, CONNECT_MAX, Purpose};
use crate::open;

/// A connection that has rested this long is asked before it is used.
const TRUST_MAX: Duration = Duration::from_secs(1);
/// A walk over everything may take its time.
const WALK_MAX: Duration = Duration::from_secs(30 * 60);

/// Connections of one purpose.
pub(crate) struct Pool {
    pool: PgPool,
    server: PgConnectOptions,
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
    pub(crate) fn new(server: &PgConnectOptions, purpose: Purpose, connections_max: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(CONNECT_MAX)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move { Ok(meta.idle_for < TRUST_MAX || connection.ping().await.is_ok()) })
            })
            .after_connect(|connection, _| Box::pin(open::check_writable(connection)))
            .connect_lazy_with(line::options(server, purpose));
        Self { pool, server: server.clone() }
    }

    /// Runs `work`, which is one statement, in a task of its own: a caller that goes away leaves neither a
    /// transaction half done nor a connection half read.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T, WriteError> {
        let pool = self.pool.clone();
        let task = tokio::spawn(async move {
            let mut connection = pool.acquire().await?;
            let done = line::within(ANSWER_MAX, work(&mut connection)).await;
            if done.as_ref().is_err_and(Fault::is_end_of_connection) {
                // Not given back, and not asked: a server that does not answer would be waited for.
                drop(connection.detach());
            }
            done
        });
        finish(task.await)
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
        let server = self.server.clone();
        let task = tokio::spawn(async move {
            let mut connection = line::connect(&server, Purpose::Walk).await?;
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

fn finish<T>(task: Result<Result<T, Fault>, tokio::task::JoinError>) -> Result<T, WriteError> {
    match task {
        Ok(done) => done.map_err(Fault::into_write),
        Err(error) if error.is_panic() => Err(StoreError::Refused(Box::new(error)).into()),
        Err(error) => Err(StoreError::Unavailable(Box::new(error)).into()),
    }
}
