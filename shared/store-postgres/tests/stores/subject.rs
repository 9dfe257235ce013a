//! Schemas of tests' own on the shared server, and a clock in each that tests can move.

use std::str::FromStr;
use std::time::Duration;

use servers::Postgres;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::runtime::Handle;
use windlass_model::Timestamp;
use windlass_store::conformance::MovableClock;

/// A fresh, empty schema. It stays until the server is thrown away.
pub(crate) struct Schema {
    pub(crate) name: String,
    /// Leads into the schema, wherever it is used.
    pub(crate) url: String,
}

impl Schema {
    pub(crate) async fn fresh() -> Self {
        Self::on(Postgres::shared().url()).await
    }

    pub(crate) async fn on(server: &str) -> Self {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(server).await.unwrap();
        let create = format!("create schema {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        // Our own functions come before PostgreSQL's: this is how a test moves its clock.
        let url = format!("{server}?options=-csearch_path%3D{name},pg_catalog");
        Self { name, url }
    }

    pub(crate) async fn pool(&self) -> PgPool {
        let options = PgConnectOptions::from_str(&self.url).unwrap();
        PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap()
    }

    pub(crate) async fn run(&self, sql: impl Into<String>) -> Result<u64, sqlx::Error> {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let done = sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(&mut connection).await;
        done.map(|done| done.rows_affected())
    }
}

/// A function of the schema that takes the place of the server's own.
pub(crate) struct DatabaseClock(PgPool);

impl DatabaseClock {
    pub(crate) async fn in_schema(schema: &Schema) -> Self {
        let Schema { name, .. } = schema;
        let sql = format!(
            "create table moved (ahead interval not null);
             insert into moved values ('0');
             create function clock_timestamp() returns timestamptz language sql volatile as
             'select pg_catalog.clock_timestamp() + (select ahead from {name}.moved)'"
        );
        schema.run(sql).await.unwrap();
        Self(schema.pool().await)
    }

    fn wait<T>(&self, asking: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| Handle::current().block_on(asking))
    }
}

impl MovableClock for DatabaseClock {
    fn now(&self) -> Timestamp {
        self.wait(async {
            let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::int8";
            Timestamp(sqlx::query(sql).fetch_one(&self.0).await.unwrap().get(0))
        })
    }

    fn advance(&self, span: Duration) {
        self.wait(async {
            let sql = "update moved set ahead = ahead + $1";
            sqlx::query(sql).bind(span).execute(&self.0).await.unwrap();
        });
    }
}
