//! What a house stands on: where its database lies, and what its processes must be told to find it.

use std::path::PathBuf;

use servers::{Postgres, Redis};

pub(super) enum Ground {
    /// The file of an embedded house.
    Sqlite(PathBuf),
    Servers(Box<Servers>),
}

/// What a fleet leans on.
pub(super) struct Servers {
    pub(super) database: Database,
    pub(super) redis: Redis,
}

/// PostgreSQL, as a fleet has it.
pub(super) enum Database {
    OnTheSharedServer(servers::Database),
    OnItsOwnServer(Postgres),
}

impl Database {
    fn url(&self) -> String {
        match self {
            Self::OnTheSharedServer(database) => database.url(),
            Self::OnItsOwnServer(postgres) => postgres.url(),
        }
    }
}

/// Others wait for what is locked, until this is dropped.
pub enum Locked {
    Sqlite(rusqlite::Connection),
    Postgres(servers::Transaction),
}

impl Ground {
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let setting = |name: &str, value| (format!("WINDLASS_{name}_URL"), value);
        match self {
            Self::Sqlite(file) => vec![setting("DATABASE", format!("sqlite://{}", file.display()))],
            Self::Servers(servers) => {
                vec![setting("DATABASE", servers.database.url()), setting("REDIS", servers.redis.url())]
            }
        }
    }

    /// Runs statements on the database, past everything that Windlass would see to.
    pub(super) fn run_sql(&self, sql: &str) {
        match self {
            Self::Sqlite(file) => {
                let database = rusqlite::Connection::open(file).expect("a SQLite database");
                database.execute_batch(sql).unwrap_or_else(|problem| panic!("{sql}: {problem}"));
            }
            Self::Servers(it) => drop(servers::run_sql(&it.database.url(), sql)),
        }
    }

    /// Locks these tables, in SQLite the whole file for writers, until the answer is dropped.
    pub(super) fn lock(&self, tables: &[&str]) -> Locked {
        match self {
            Self::Sqlite(file) => {
                let database = rusqlite::Connection::open(file).expect("a SQLite database");
                database.execute_batch("begin immediate").expect("nobody writes for long");
                Locked::Sqlite(database)
            }
            Self::Servers(it) => {
                let lock = format!("lock table {} in access exclusive mode", tables.join(", "));
                Locked::Postgres(servers::Transaction::begin(&it.database.url(), &lock))
            }
        }
    }

    /// Everything that the servers keep, as text; binary values in hexadecimal. A file needs no asking.
    pub(super) fn dump(&self) -> Option<String> {
        match self {
            Self::Sqlite(_) => None,
            Self::Servers(it) => Some(servers::dump(&it.database.url())),
        }
    }
}
