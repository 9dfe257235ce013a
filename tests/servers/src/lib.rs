//! Throw-away servers for tests: private, on a free port, in a temporary folder, gone when the test is.
//!
//! [`Postgres::start`] and [`Redis::start`] give a server that one test may kill, freeze and start again.
//! [`Postgres::shared`] gives one that all tests of this machine share, each in a schema or a database of its own,
//! because starting a server takes longer than most tests.
//!
//! [`Process`] is what they are made of, for other programs that should run beside them. A
//! [`Proxy`] stands before a PostgreSQL and cuts its answers off, or holds them.
//!
//! A server outlives nobody: a small shell watches the test that started it, and cleans up even when the test
//! was killed.

mod account;
mod database;
mod folder;
mod postgres;
mod process;
pub mod proxy;
mod redis;
mod shared;

pub use database::{Database, Transaction, dump, run_sql};
pub use postgres::Postgres;
pub use process::Process;
pub use proxy::Proxy;
pub use redis::{Overhearing, Redis, RedisHoldings};
pub use shared::SharedPostgres;

use std::net::TcpListener;

/// A port that nobody listens on at this moment.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on the loopback");
    listener.local_addr().expect("a bound listener has an address").port()
}
