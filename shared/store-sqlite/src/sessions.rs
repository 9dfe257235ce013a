//! Worker sessions, the clock, and what is forgotten after a while.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::named_params;
use windlass_model::{SessionId, TenantId, Timestamp};
use windlass_store::{IdempotencyKey, Reply, Sessions, StoreError};

use crate::claim::before;
use crate::rows::Id;
use crate::{SqliteStore, query, replies};

#[async_trait]
impl Sessions for SqliteStore {
    async fn renew_session(&self, session: SessionId, ttl: Duration) -> Result<Timestamp, StoreError> {
        self.write_always(move |db, now| {
            db.prepare_cached(query!("renew_session"))?.execute(named_params! {
                ":session": Id::from(session),
                ":now": now.0,
                ":expires_at": now.plus(ttl).0,
            })?;
            Ok(now)
        })
        .await
    }

    async fn close_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.write_always(move |db, _| {
            let mut statement = db.prepare_cached(query!("close_session"))?;
            statement.execute(named_params! { ":session": Id::from(session) })?;
            Ok(())
        })
        .await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.read(|db, now| {
            db.prepare_cached(query!("now"))?.exists([])?;
            Ok(now)
        })
        .await
    }

    async fn find_reply(&self, tenant: TenantId, key: &IdempotencyKey) -> Result<Option<Reply>, StoreError> {
        let key = key.clone();
        self.read(move |db, _| replies::find(db, tenant, &key)).await
    }

    async fn clean_up(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write_always(move |db, now| {
            let replies = db
                .prepare_cached(query!("clean_up.replies"))?
                .execute(named_params! { ":before": before(now, age), ":limit": limit })?;
            let sessions = db
                .prepare_cached(query!("clean_up.sessions"))?
                .execute(named_params! { ":now": now.0, ":limit": limit })?;
            Ok((replies + sessions) as u64)
        })
        .await
    }
}
