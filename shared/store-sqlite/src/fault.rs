//! What can go wrong on a connection, and what the port calls it.

use rusqlite::ErrorCode;
use windlass_store::{StoreError, WriteError};

/// Why a job did not do what it should.
#[derive(Debug)]
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Write(WriteError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Write(WriteError::Store(error))
    }
}

impl Fault {
    pub(crate) fn refused(problem: impl Into<String>) -> Self {
        StoreError::Refused(problem.into().into()).into()
    }

    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        StoreError::Damaged(problem.into()).into()
    }

    pub(crate) fn into_write(self) -> WriteError {
        match self {
            Self::Sqlite(error) => store_error(error).into(),
            Self::Write(error) => error,
        }
    }

    pub(crate) fn into_store(self) -> StoreError {
        match self.into_write() {
            WriteError::Store(error) => error,
            other => StoreError::Refused(Box::new(other)),
        }
    }
}

/// What an error of SQLite means to a caller.
pub(crate) fn store_error(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error as E;
    match &error {
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => StoreError::Damaged(error.to_string()),
        E::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Damaged(error.to_string()),
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::NoLargeFileSupport
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied => StoreError::Unavailable(Box::new(error)),
            _ => StoreError::Refused(Box::new(error)),
        },
        _ => StoreError::Refused(Box::new(error)),
    }
}
