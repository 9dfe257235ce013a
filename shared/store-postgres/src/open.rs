//! Which server, and whether it can be used.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};

/// What an operator may choose.
#[derive(Clone, Copy, Debug)]
pub struct PostgresOptions {
    /// Connections that look up single rows and runs. Each connection of a process is opened when it is first needed;
    /// besides these two kinds there are up to seven: for groups of writes (two), creates, claims, the sweep, and two to show
    /// that the process lives.
    pub lookups_max: u32,
    /// Connections for lists and housekeeping.
    pub searches_max: u32,
    /// Whether opening brings the schema up to date. If not, a database that is not is refused.
    pub migrates: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { lookups_max: 6, searches_max: 4, migrates: true }
    }
}

/// Why a database could not be opened. A cause is told here, and not once more as a source.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the address of the database cannot be read: {0}")]
    Address(sqlx::Error),
    #[error("the database cannot be reached: {0}")]
    Connect(sqlx::Error),
    #[error("the database runs PostgreSQL {found}, and Windlass needs 14 or newer")]
    TooOld { found: String },
    #[error("the database stores text as {found}, and Windlass needs UTF8")]
    Encoding { found: String },
    #[error("the database has schema {found}, and this Windlass knows {known}: use a newer Windlass")]
    Newer { found: i32, known: i32 },
    #[error("the database has schema {found} instead of {known}: run `windlass migrate`")]
    Older { found: i32, known: i32 },
    #[error("migration {name} failed: {error}")]
    Migration { name: &'static str, error: sqlx::Error },
    #[error("PostgreSQL: {0}")]
    Postgres(sqlx::Error),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(error)
    }
}

/// The oldest server that knows all we say, as `server_version_num` writes it.
const VERSION_MIN: i32 = 140_000;

pub(crate) fn parse(url: &str) -> Result<PgConnectOptions, OpenError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        let problem = "it begins with neither postgres:// nor postgresql://";
        return Err(OpenError::Address(sqlx::Error::Configuration(problem.into())));
    }
    Ok(PgConnectOptions::from_str(url).map_err(OpenError::Address)?.disable_statement_logging())
}

pub(crate) fn cannot_connect(error: sqlx::Error) -> OpenError {
    OpenError::Connect(error)
}

pub(crate) async fn check_server(connection: &mut PgConnection) -> Result<(), OpenError> {
    let row = sqlx::query(
        "select current_setting('server_version_num')::int4, current_setting('server_version'),
                current_setting('server_encoding'), current_setting('fsync') = 'on',
                current_setting('synchronous_commit') <> 'off'",
    )
    .fetch_one(connection)
    .await?;
    if row.try_get::<i32, _>(0)? < VERSION_MIN {
        return Err(OpenError::TooOld { found: row.try_get(1)? });
    }
    let found: String = row.try_get(2)?;
    if found != "UTF8" {
        return Err(OpenError::Encoding { found });
    }
    if !(row.try_get::<bool, _>(3)? && row.try_get::<bool, _>(4)?) {
        tracing::warn!(
            "The database answers before it has written to disk: a power failure loses what was acknowledged"
        );
    }
    Ok(())
}

/// A standby can be connected to and be of no use; after a failover the old address may lead to one.
pub(crate) async fn check_writable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row = sqlx::query("select pg_is_in_recovery()").persistent(false).fetch_one(&mut *connection).await?;
    if row.try_get(0)? {
        return Err(std::io::Error::other("the server is a standby, which cannot be written to").into());
    }
    connection.ping().await
}
