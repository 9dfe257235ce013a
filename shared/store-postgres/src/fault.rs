//! What can go wrong on a connection, and what the port calls it.

use windlass_store::{StoreError, WriteError};

/// The answer was lost: it happened as a whole, or not at all, and nobody knows which.
#[derive(Debug, thiserror::Error)]
#[error("whether it happened is not known: {0}")]
pub(crate) struct InDoubt(pub(crate) String);

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Fault {
    Sqlx(sqlx::Error),
    Write(WriteError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
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
    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        StoreError::Damaged(problem.into()).into()
    }

    /// Whether the server itself said no. Then nothing was written, and the connection is as good as before.
    pub(crate) fn is_said_by_server(&self) -> bool {
        matches!(self, Self::Sqlx(error) if kind_of(error) == Kind::Refused || kind_of(error) == Kind::Busy)
    }

    /// Whether the same again, a moment later, may work: two transactions met.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Sqlx(error) if kind_of(error) == Kind::Busy)
    }

    /// Whether the connection is lost, or leads to a server that cannot help: a new one is needed.
    pub(crate) fn is_end_of_connection(&self) -> bool {
        matches!(self, Self::Sqlx(error) if kind_of(error) == Kind::Away)
    }

    /// Whether a parameter holds a character that PostgreSQL cannot store: NUL.
    pub(crate) fn is_unstorable(&self) -> bool {
        matches!(self, Self::Sqlx(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22021"))
    }

    pub(crate) fn into_write(self) -> WriteError {
        match self {
            Self::Sqlx(error) => store_error(error).into(),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The connection is lost or useless. Whether a commit on its way has arrived is not known.
    Away,
    /// Nothing was done, and may work a moment later.
    Busy,
    Damaged,
    Refused,
}

/// What an error means to a caller.
pub(crate) fn store_error(error: sqlx::Error) -> StoreError {
    match kind_of(&error) {
        Kind::Away | Kind::Busy => StoreError::Unavailable(Box::new(error)),
        Kind::Damaged => StoreError::Damaged(error.to_string()),
        Kind::Refused => StoreError::Refused(Box::new(error)),
    }
}

fn kind_of(error: &sqlx::Error) -> Kind {
    use sqlx::Error as E;
    match error {
        E::Io(_)
        | E::Tls(_)
        | E::Protocol(_)
        | E::PoolTimedOut
        | E::PoolClosed
        | E::WorkerCrashed
        | E::BeginFailed => Kind::Away,
        E::Database(error) => error.code().map_or(Kind::Refused, |code| kind_of_code(&code)),
        E::ColumnDecode { .. } | E::Decode(_) => Kind::Damaged,
        _ => Kind::Refused,
    }
}

/// See the appendix "PostgreSQL Error Codes" of its manual.
fn kind_of_code(code: &str) -> Kind {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available.
        "40001" | "40P01" | "55P03" => Kind::Busy,
        // read_only_sql_transaction: a standby, or a server that is about to become one.
        "25006" => Kind::Away,
        // idle_in_transaction_session_timeout and its kin end the connection.
        "25P03" | "25P04" => Kind::Away,
        // data_corrupted, index_corrupted.
        "XX001" | "XX002" => Kind::Damaged,
        // Connection exceptions, insufficient resources, operator intervention (a statement_timeout is among them),
        // system errors; and who may no longer log in, or to what.
        _ if ["08", "53", "57", "58", "28", "3D"].contains(&code.get(..2).unwrap_or_default()) => Kind::Away,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        assert_eq!(kind_of_code("23505"), Kind::Refused);
        assert_eq!(kind_of_code("57P01"), Kind::Away);
        assert_eq!(kind_of_code("53100"), Kind::Away);
        assert_eq!(kind_of_code("57014"), Kind::Away);
        assert_eq!(kind_of_code("40P01"), Kind::Busy);
        assert_eq!(kind_of_code("25006"), Kind::Away);
        assert_eq!(kind_of_code("XX001"), Kind::Damaged);
        assert_eq!(kind_of_code(""), Kind::Refused);
    }
}
