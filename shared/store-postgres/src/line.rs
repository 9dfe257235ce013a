//! One connection for one purpose, opened anew whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, timeout};
use windlass_store::StoreError;

use crate::fault::{Fault, store_error};
use crate::growth::Growth;
use crate::open;

/// A server that takes longer to say hello is as good as away.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The server ends a statement that takes longer: whoever waits is told that the database is away.
const STATEMENT_MAX: Duration = Duration::from_secs(5);
/// When the server does not even do that, we hang up.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(6);
/// A transaction of ours never waits for us; one that does belongs to a process that is stuck.
const IDLE_IN_TRANSACTION_MAX: Duration = Duration::from_secs(5);
/// Migrations may rewrite tables.
const MIGRATION_STATEMENT_MAX: Duration = Duration::from_secs(30 * 60);

/// Between two attempts to connect; doubled, with as much again by chance, up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(500);

type Setting = (&'static str, &'static str);

/// Leaves one plan, whatever is known about the tables: nested loops, and an index for each.
const LOOKUPS: [Setting; 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The same; and a claim waits for a write on its way, but not for somebody who is stuck.
const CLAIMS: [Setting; 5] = [LOOKUPS[0], LOOKUPS[1], LOOKUPS[2], LOOKUPS[3], ("lock_timeout", "100ms")];

/// What a connection is for, because that decides how the server must plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Groups of writes and creates: one generic plan that never walks a table, however little is known about it.
    Ticks,
    /// Groups of claims, which read as well: one generic plan that looks up each row through an index.
    Claims,
    /// Single rows and single runs, read or written: planned once, because planning takes longer than doing.
    Lookups,
    /// Whatever walks along an index, under conditions that differ: planned anew each time, for the values at hand.
    Searches,
    /// Looks every second for all that is due, and mostly finds nothing: planned once, as lookups are.
    Sweeps,
    /// Gives signs of life.
    Renewals,
    /// Holds locks that show that this process lives.
    Liveness,
    /// Long walks that nobody waits for by the second.
    Walk,
    Migration,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Ticks => "windlass ticks",
            Self::Claims => "windlass claims",
            Self::Lookups => "windlass lookups",
            Self::Searches => "windlass searches",
            Self::Sweeps => "windlass sweeps",
            Self::Renewals => "windlass renewals",
            Self::Liveness => "windlass liveness",
            Self::Walk => "windlass walk",
            Self::Migration => "windlass migrate",
        }
    }

    fn settings(self) -> &'static [Setting] {
        match self {
            // A table that was never analysed looks as if it had one row; then walking it, or looking each row up
            // through the index on lease owners, seems cheap, and a batch costs as much as the table is long.
            Self::Ticks => &[
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_nestloop", "off"),
                ("enable_mergejoin", "off"),
            ],
            Self::Claims => &CLAIMS,
            Self::Lookups | Self::Sweeps | Self::Renewals => &LOOKUPS,
            Self::Searches | Self::Walk => &[("plan_cache_mode", "force_custom_plan")],
            // A machine that is gone says no goodbye; the server finds out in about ten seconds instead of hours.
            Self::Liveness => &[
                ("tcp_keepalives_idle", "5"),
                ("tcp_keepalives_interval", "2"),
                ("tcp_keepalives_count", "3"),
            ],
            Self::Migration => &[],
        }
    }

    /// How long a connection may rest. After that it may have been cut, and is asked before it is trusted with a write.
    fn trusted(self) -> Duration {
        match self {
            Self::Ticks | Self::Claims | Self::Lookups | Self::Searches | Self::Walk | Self::Migration => {
                Duration::from_secs(1)
            }
            // Longer than from turn to turn: the next one asks again.
            Self::Sweeps | Self::Renewals => Duration::from_secs(5),
            // Whoever holds locks on it must hear that it was lost, and asks for that.
            Self::Liveness => Duration::MAX,
        }
    }

    /// How often somebody looks whether plans are outgrown, of those who keep them. Where nothing is written, tables grow
    /// by what others write: that is seen later.
    fn looks_at_size(self) -> Option<Duration> {
        match self {
            Self::Ticks | Self::Claims => Some(Duration::from_secs(1)),
            Self::Sweeps => Some(Duration::from_secs(5)),
            Self::Lookups | Self::Renewals => Some(Duration::from_secs(10)),
            Self::Searches | Self::Liveness | Self::Walk | Self::Migration => None,
        }
    }

    fn statement_max(self) -> Duration {
        match self {
            Self::Walk | Self::Migration => MIGRATION_STATEMENT_MAX,
            Self::Ticks
            | Self::Claims
            | Self::Lookups
            | Self::Searches
            | Self::Sweeps
            | Self::Renewals
            | Self::Liveness => STATEMENT_MAX,
        }
    }
}

/// How to connect for this purpose. All that the connection needs is said while connecting.
pub(crate) fn options(server: &PgConnectOptions, purpose: Purpose) -> PgConnectOptions {
    let millis = |span: Duration| span.as_millis().to_string();
    server
        .clone()
        .application_name(purpose.name())
        .options([
            ("statement_timeout", millis(purpose.statement_max()).as_str()),
            ("idle_in_transaction_session_timeout", &millis(IDLE_IN_TRANSACTION_MAX)),
            ("default_transaction_isolation", "read committed"),
            // Costs that only say "never do this" would make it compile every statement.
            ("jit", "off"),
        ])
        .options(purpose.settings().iter().copied())
        .disable_statement_logging()
}

/// # Errors
/// When the server is not there, or does not let us in, or can only be read from.
pub(crate) async fn connect(
    server: &PgConnectOptions,
    purpose: Purpose,
) -> Result<PgConnection, sqlx::Error> {
    let connecting = async {
        let mut connection = options(server, purpose).connect().await?;
        open::check_writable(&mut connection).await?;
        Ok(connection)
    };
    timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
}

/// The server, and what all connections to it must know.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) options: PgConnectOptions,
    pub(crate) growth: Arc<Growth>,
}

/// A connection that is there when it is needed.
pub(crate) struct Line {
    server: Server,
    purpose: Purpose,
    connection: Option<PgConnection>,
    /// How large the table of runs was when the connection's plans were made.
    planned_for_bytes: i64,
    used_at: Instant,
    /// Attempts to connect that failed since one worked.
    failures: u32,
    retry_at: Instant,
}

impl Line {
    pub(crate) fn new(server: &Server, purpose: Purpose) -> Self {
        let now = Instant::now();
        Self {
            server: server.clone(),
            purpose,
            connection: None,
            planned_for_bytes: 0,
            used_at: now,
            failures: 0,
            retry_at: now,
        }
    }

    /// The connection, if need be a new one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] after one attempt that failed.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        let mut connection = self.connection.take();
        let trusted = self.purpose.trusted();
        if let Some(rested) = connection.as_mut().filter(|_| self.used_at.elapsed() > trusted) {
            // A connection that was cut is found out before anything is written on it, while that is still harmless.
            if !matches!(timeout(CONNECT_MAX, rested.ping()).await, Ok(Ok(()))) {
                connection = None;
            }
        }
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.reconnect().await?,
        };
        if let Some(every) = self.purpose.looks_at_size() {
            let planning = timeout(CONNECT_MAX, self.plan_for_size(&mut connection, every)).await;
            planning.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(store_error)?;
        }
        self.used_at = Instant::now();
        Ok(self.connection.insert(connection))
    }

    /// Throws plans away that were made for a much smaller table.
    async fn plan_for_size(
        &mut self,
        connection: &mut PgConnection,
        every: Duration,
    ) -> Result<(), sqlx::Error> {
        let growth = &self.server.growth;
        growth.look(connection, every).await?;
        if growth.has_outgrown(self.planned_for_bytes) {
            self.planned_for_bytes = growth.bytes();
            sqlx::query("discard plans").persistent(false).execute(connection).await?;
        }
        Ok(())
    }

    /// After something failed: a transaction that is still open is ended now, because its locks are in others' way,
    /// and a connection that is lost is given up.
    pub(crate) async fn clear_up(&mut self, fault: &Fault) {
        let Some(connection) = &mut self.connection else { return };
        let is_lost = fault.is_end_of_connection();
        // The driver only remembers to roll back; it does so before whatever comes next.
        if is_lost || !matches!(timeout(CONNECT_MAX, connection.ping()).await, Ok(Ok(()))) {
            self.hang_up();
        }
    }

    /// Hangs up without a word: what is on its way is the server's to finish or to drop.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }

    async fn reconnect(&mut self) -> Result<PgConnection, StoreError> {
        tokio::time::sleep_until(self.retry_at).await;
        match connect(&self.server.options, self.purpose).await {
            Ok(connection) => {
                if self.failures > 0 {
                    tracing::info!(connection = self.purpose.name(), "The database is back");
                }
                self.failures = 0;
                self.planned_for_bytes = self.server.growth.bytes();
                Ok(connection)
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(connection = self.purpose.name(), error = %error, "The database is away");
                }
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Instant::now() + pause_after(self.failures);
                Err(store_error(error))
            }
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    let longest = RETRY_FIRST.saturating_mul(1 << failures.min(8)).min(RETRY_MAX);
    longest + longest.mul_f64(chance())
}

/// A number from zero to one, so that processes that lost the server together do not come back together.
pub(crate) fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

/// Does `work` on a connection, and hangs up when no answer comes.
///
/// # Errors
/// Whatever `work` says, or that the server does not answer.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(no_answer().into()))
}

fn no_answer() -> sqlx::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {ANSWER_MAX:?}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert!(pause_after(1) <= 4 * RETRY_FIRST);
        assert!(pause_after(50) >= RETRY_MAX && pause_after(u32::MAX) <= 2 * RETRY_MAX);
        assert!((0.0..=1.0).contains(&chance()));
    }
}
