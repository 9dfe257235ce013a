//! SQLite keeps every promise of the port.

use std::sync::Arc;

use windlass_model::Timestamp;
use windlass_store::Clock;
use windlass_store::conformance::Subject;
use windlass_store_sqlite::SqliteStore;

async fn subject() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windlass.db");
    let clock = Arc::new(Clock::fixed(Timestamp(1_800_000_000_000_000)));
    let store = SqliteStore::open_with_clock(&path, clock.clone()).unwrap();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute("insert into tenants (id, name) values (2, 'other')", [])
        .unwrap();
    Subject { store, clock, keep: Box::new(folder) }
}

windlass_store::conformance_tests!(subject());
