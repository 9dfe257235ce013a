//! Worker sessions, the clock, and what is forgotten after a while.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use windlass_model::{SessionId, TenantId, Timestamp};
use windlass_store::{IdempotencyKey, Reply, Sessions, StoreError};

use crate::fault::Fault;
use crate::types::{At, span};
use crate::{PostgresStore, migrate, query, replies};

/// Partitions of the log that exist ahead of time. Housekeeping comes by many times a month.
const MONTHS_AHEAD: i32 = 2;

#[async_trait]
impl Sessions for PostgresStore {
    async fn renew_session(&self, session: SessionId, ttl: Duration) -> Result<Timestamp, StoreError> {
        let liveness = self.liveness.key_of(session).await;
        self.renewals
            .ask(move |db| {
                Box::pin(async move {
                    let query =
                        sqlx::query(query!("renew_session")).bind(session.0).bind(span(ttl)).bind(liveness);
                    Ok(query.fetch_one(db).await?.try_get::<At, _>(0)?.into())
                })
            })
            .await
    }

    async fn close_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.liveness.forget(session);
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    sqlx::query(query!("close_session")).bind(session.0).execute(db).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn death(&self) {
        self.liveness.death().await;
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.lookups
            .ask(|db| {
                Box::pin(async move {
                    Ok(sqlx::query(query!("now")).fetch_one(db).await?.try_get::<At, _>(0)?.into())
                })
            })
            .await
    }

    async fn find_reply(&self, tenant: TenantId, key: &IdempotencyKey) -> Result<Option<Reply>, StoreError> {
        let key = key.clone();
        self.lookups.find(move |db| Box::pin(async move { replies::find(db, tenant, &key).await })).await
    }

    async fn clean_up(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.make_partitions().await;
        self.searches
            .ask(move |db| {
                Box::pin(async move {
                    let limit = i64::from(limit);
                    let mut rows = 0;
                    for rest in [
                        query!("clean_up.replies"),
                        query!("clean_up.circuits"),
                        query!("clean_up.rate_limits"),
                    ] {
                        let query = sqlx::query(rest).bind(span(age)).bind(limit);
                        rows += query.execute(&mut *db).await?.rows_affected();
                    }
                    let sessions = sqlx::query(query!("clean_up.sessions")).bind(limit).execute(db).await?;
                    Ok(rows + sessions.rows_affected())
                })
            })
            .await
    }
}

impl PostgresStore {
    /// Makes the log's next partitions. A failure can wait for the next time: until then the default partition
    /// takes what has no other.
    pub(crate) async fn make_partitions(&self) {
        let made = self
            .searches
            .run_whole(|db| {
                Box::pin(async move {
                    // Attaching a partition locks the default one; whoever writes there must not wait for long.
                    sqlx::query("set local lock_timeout = '1s'").execute(&mut *db).await?;
                    let query = sqlx::query(query!("clean_up.partitions"));
                    let row = query.bind(migrate::LOCK).bind(MONTHS_AHEAD).fetch_one(db).await?;
                    Ok(row.try_get::<i32, _>(0)?)
                })
            })
            .await;
        match made {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "Partitions of the log were made ahead"),
            Err(error) => {
                let error = Fault::Write(error).into_store();
                tracing::warn!(error = %error, "The log's next partitions could not be made");
            }
        }
    }
}
