//! Connections, and what is set on each of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags};
use windlass_store::stored::contains_ignoring_case;

use crate::migrate;
use crate::sessions::OwnSessions;

/// A backup tool may hold the file for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that the writer keeps in memory, in KiB: the hot ends of tables and indexes of a few thousand runs.
const WRITER_CACHE_KIB: i64 = 2_048;
/// The same for each reader.
const READER_CACHE_KIB: i64 = 512;
/// Pages in the write-ahead log before they are moved into the database: fewer and larger moves, each of which
/// holds up one commit.
const CHECKPOINT_PAGES: i64 = 2_000;
/// A burst may let the write-ahead log grow; afterwards it is cut to this.
const LOG_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// All statements that the writer uses at least once per run.
const STATEMENTS_MAX: usize = 96;

/// Why a database could not be opened. A cause is told here, and not once more as a source.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another process{}", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Owned { path: PathBuf, pid: Option<u32> },
    #[error("the lock file {path} cannot be used: {error}")]
    Lock { path: PathBuf, error: std::io::Error },
    #[error("the database has schema {found}, and this Windlass knows {known}: use a newer Windlass")]
    Newer { found: u32, known: u32 },
    #[error(
        "the database has schema {found} instead of {known}: start Windlass on it once to bring it up to date"
    )]
    Older { found: u32, known: u32 },
    #[error("the file is a SQLite database of another program")]
    Foreign,
    #[error("the file system does not allow a write-ahead log; is it a network drive?")]
    NoWriteAheadLog,
    #[error("a thread for the database could not be started: {0}")]
    Thread(std::io::Error),
    #[error("SQLite: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The writer's connection of the process that owns the database; the schema is up to date afterwards.
pub(crate) fn owned(path: &Path, sessions: &OwnSessions) -> Result<Connection, OpenError> {
    // NO_MUTEX: a connection belongs to one thread.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    migrate::refuse_strangers(&connection)?;
    let mode: String = connection.query_row("pragma journal_mode = wal", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog);
    }
    // FULL: what was answered has reached the disk. It costs nothing once commits are grouped.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    set_up(&connection, sessions)?;
    migrate::bring_up_to_date(&connection)?;
    Ok(connection)
}

pub(crate) fn for_reading(path: &Path, sessions: &OwnSessions) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    set_up(&connection, sessions)?;
    Ok(connection)
}

pub(crate) fn set_up(connection: &Connection, sessions: &OwnSessions) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // A plan is made once. Otherwise SQLite makes it anew whenever a parameter that it might be made for is bound, and
    // the limit of a list is one.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    sessions.show_to(connection)?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    // SQLite's own `lower` and `like` know ASCII only.
    connection.create_scalar_function("contains_ignoring_case", 2, flags, |context| {
        let (text, part) = (context.get_raw(0), context.get_raw(1));
        Ok(match (text.as_str_or_null(), part.as_str_or_null()) {
            (Ok(Some(text)), Ok(Some(part))) => contains_ignoring_case(text, part),
            _ => false,
        })
    })?;
    connection.create_scalar_function("uuid_text", 1, flags, |context| {
        Ok(context.get::<crate::rows::Id>(0)?.0.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_reaches_the_disk_and_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let number = |connection: &Connection, name: &str| -> i64 {
            connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
        };
        let sessions = OwnSessions::default();
        let writer = owned(&path, &sessions).unwrap();
        let mode: String = writer.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        // 2 is FULL.
        assert_eq!(
            (mode.as_str(), number(&writer, "synchronous"), number(&writer, "foreign_keys")),
            ("wal", 2, 1)
        );
        // 2 is MEMORY.
        let reader = for_reading(&path, &sessions).unwrap();
        assert_eq!((number(&writer, "temp_store"), number(&reader, "temp_store")), (2, 2));
        let refused = reader.execute("delete from tenants", []).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly));
    }
}
