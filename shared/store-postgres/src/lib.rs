//! The store port on PostgreSQL: one database that any number of processes share.
//!
//! The hot methods of the port (create, write and claim a run) queue up in lanes ([`lane`]): while one group is
//! being committed the next one gathers, and each group is one statement. Everything else runs on two small pools,
//! one for looking up and one for searching, because the server has to plan for each in its own way.
//! Either way a transaction belongs to a task of its own, so that a dropped future leaves no trace.
//! Statements lie in `queries/`, named after the method of the port that they serve.

mod blobs;
mod callees;
mod circuits;
mod claim_run;
mod create_run;
mod fault;
mod groups;
mod growth;
mod integrity;
mod lane;
mod line;
mod list_runs;
mod liveness;
mod migrate;
mod open;
mod outbox;
mod pool;
mod rate_limits;
mod repair;
mod replies;
mod rows;
mod runs;
mod schedules;
mod sessions;
mod types;
mod workflows;
mod write_run;
mod write_run_extras;

use std::sync::Arc;

use claim_run::Claims;
use create_run::Creates;
use lane::Lane;
use line::{Purpose, Server};
use liveness::Liveness;
pub use open::{OpenError, PostgresOptions};
use pool::Pool;
use write_run::Writes;

/// Lines of the lane of writes. A second one is used under backlog only: with few runs at hand it would halve the
/// groups and cost half as much again.
const WRITE_LINES: usize = 2;
/// New runs and claims arrive as fast as a door and a doorbell let them in: groups of them stay below the largest.
const CREATE_LINES: usize = 1;
const CLAIM_LINES: usize = 1;

/// An open database.
pub struct PostgresStore {
    lookups: Pool,
    searches: Pool,
    sweeps: Pool,
    /// Whoever asks a question waits for others, or for a lock that another process holds. A sign of life must not.
    renewals: Pool,
    writes: Lane<Writes>,
    creates: Lane<Creates>,
    claims: Lane<Claims>,
    liveness: Liveness,
}

impl PostgresStore {
    /// Connects to a database and brings its schema up to date; processes that do so at the same time wait for
    /// each other.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for people.
    pub async fn open(url: &str) -> Result<Arc<Self>, OpenError> {
        Self::open_with(url, PostgresOptions::default()).await
    }

    /// As [`PostgresStore::open`], with settings of one's own.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open_with(url: &str, options: PostgresOptions) -> Result<Arc<Self>, OpenError> {
        let server = Server { options: open::parse(url)?, growth: Arc::default() };
        let connecting = line::connect(&server.options, Purpose::Migration).await;
        let mut connection = connecting.map_err(open::cannot_connect)?;
        open::check_server(&mut connection).await?;
        if options.migrates {
            migrate::bring_up_to_date(&mut connection).await?;
        }
        migrate::check_current(&mut connection).await?;
        Ok(Arc::new(Self {
            lookups: Pool::new(&server, Purpose::Lookups, options.lookups_max),
            searches: Pool::new(&server, Purpose::Searches, options.searches_max),
            sweeps: Pool::new(&server, Purpose::Sweeps, 1),
            renewals: Pool::new(&server, Purpose::Renewals, 1),
            writes: Lane::start(&server, Purpose::Ticks, WRITE_LINES),
            creates: Lane::start(&server, Purpose::Ticks, CREATE_LINES),
            claims: Lane::start(&server, Purpose::Claims, CLAIM_LINES),
            liveness: Liveness::start(&server),
        }))
    }
}

/// The text of a query, by its name in `queries/`.
macro_rules! query {
    ($name:literal) => {
        include_str!(concat!("queries/", $name, ".sql"))
    };
}
pub(crate) use query;
