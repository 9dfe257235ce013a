//! PostgreSQL keeps every promise of the port.

use std::sync::Arc;

use windlass_store::conformance::Subject;
use windlass_store_postgres::PostgresStore;

use crate::subject::{DatabaseClock, Schema};

async fn subject() -> Subject {
    let schema = Schema::fresh().await;
    let clock = Arc::new(DatabaseClock::in_schema(&schema).await);
    let store = PostgresStore::open(&schema.url).await.unwrap();
    schema.run("insert into tenants (id, name) values (2, 'other')").await.unwrap();
    Subject { store, clock, keep: Box::new(()) }
}

windlass_store::conformance_tests!(subject());
