//! Brings the schema up to date, one process at a time, and refuses a schema that it does not understand.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use crate::OpenError;

/// In order; the table `windlass_schema` says how many a database has seen.
const MIGRATIONS: &[(&str, &str)] =
    &[("0001_core", include_str!("../../../migrations/postgres/0001_core.sql"))];

/// `WNDL`: the first half of the lock that migrating processes wait for. The second is the schema's own.
pub(crate) const LOCK: i32 = 0x574e_444c;

fn known() -> i32 {
    MIGRATIONS.len() as i32
}

pub(crate) async fn bring_up_to_date(connection: &mut PgConnection) -> Result<(), OpenError> {
    // A session's lock, not a transaction's: each migration has a transaction of its own. A process that dies here
    // gives it back by dying.
    sqlx::query("select pg_advisory_lock($1, hashtext(current_schema()))")
        .bind(LOCK)
        .execute(&mut *connection)
        .await?;
    let done = apply_missing(connection).await;
    sqlx::query("select pg_advisory_unlock($1, hashtext(current_schema()))")
        .bind(LOCK)
        .execute(&mut *connection)
        .await?;
    done
}

async fn apply_missing(connection: &mut PgConnection) -> Result<(), OpenError> {
    let seen = version_of(connection).await?;
    if seen > known() {
        return Err(OpenError::Newer { found: seen, known: known() });
    }
    for (number, (name, sql)) in (1..).zip(MIGRATIONS).skip(usize::try_from(seen).unwrap_or_default()) {
        let failed = |error| OpenError::Migration { name, error };
        apply(connection, number, name, sql).await.map_err(failed)?;
        tracing::info!(migration = name, "The database schema was brought up to date");
    }
    Ok(())
}

/// As a whole or not at all.
async fn apply(
    connection: &mut PgConnection,
    number: i32,
    name: &'static str,
    sql: &'static str,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if number == 1 {
        let table = "create table if not exists windlass_schema (
                         version integer primary key, name text not null, applied_at timestamptz not null)";
        sqlx::raw_sql(table).execute(&mut *transaction).await?;
    }
    sqlx::raw_sql(sql).execute(&mut *transaction).await?;
    sqlx::query("insert into windlass_schema (version, name, applied_at) values ($1, $2, clock_timestamp())")
        .bind(number)
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// The schema must be exactly ours.
pub(crate) async fn check_current(connection: &mut PgConnection) -> Result<(), OpenError> {
    let found = version_of(connection).await?;
    match found.cmp(&known()) {
        std::cmp::Ordering::Less => Err(OpenError::Older { found, known: known() }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(OpenError::Newer { found, known: known() }),
    }
}

/// How many migrations the database has seen; zero when there is no schema yet.
async fn version_of(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let row =
        sqlx::query("select to_regclass('windlass_schema') is not null").fetch_one(&mut *connection).await?;
    if !row.try_get::<bool, _>(0)? {
        return Ok(0);
    }
    let row =
        sqlx::query("select coalesce(max(version), 0) from windlass_schema").fetch_one(connection).await?;
    row.try_get(0)
}
