//! Worker sessions, the clock, and what is forgotten after a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, named_params};
use windlass_model::{SessionId, TenantId, Timestamp};
use windlass_store::{IdempotencyKey, Reply, Sessions, StoreError};

use crate::claim::before;
use crate::rows::Id;
use crate::{SqliteStore, query, replies};

/// When each session of this process ends, unless it is renewed. They are not kept in the file: no other process has any
/// while this one holds the owner lock, and none outlives it. So a worker that has nothing to do writes nothing.
#[derive(Clone, Default)]
pub(crate) struct OwnSessions(Arc<Mutex<HashMap<Id, Timestamp>>>);

impl OwnSessions {
    /// Lets statements ask: `session_expires_at(id)`, null for a session that is not known.
    pub(crate) fn show_to(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sessions = self.clone();
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
        connection.create_scalar_function("session_expires_at", 1, flags, move |context| {
            let session: Option<Id> = context.get(0)?;
            Ok(session.and_then(|it| sessions.lock().get(&it).map(|expires_at| expires_at.0)))
        })
    }

    fn expired(&self, now: Timestamp) -> Vec<Id> {
        self.lock()
            .iter()
            .filter(|(_, expires_at)| **expires_at <= now)
            .map(|(session, _)| *session)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Timestamp>> {
        self.0.lock().expect("no panic while holding it")
    }
}

#[async_trait]
impl Sessions for SqliteStore {
    async fn renew_session(&self, session: SessionId, ttl: Duration) -> Result<Timestamp, StoreError> {
        // An empty transaction: who is renewed can write.
        let now = self.write_always(|_, now| Ok(now)).await?;
        self.sessions.lock().insert(session.into(), now.plus(ttl));
        Ok(now)
    }

    async fn close_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.sessions.lock().remove(&session.into());
        Ok(())
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
        let asked_at = self.clock.now();
        let expired = self.sessions.expired(asked_at);
        let (forgotten, rows) = self
            .write_always(move |db, now| {
                let mut rows = 0;
                for rest in
                    [query!("clean_up.replies"), query!("clean_up.circuits"), query!("clean_up.rate_limits")]
                {
                    let parameters = named_params! { ":before": before(now, age), ":limit": limit };
                    rows += db.prepare_cached(rest)?.execute(parameters)? as u64;
                }
                let mut owns_runs = db.prepare_cached(query!("clean_up.owns_runs"))?;
                let mut ownerless = Vec::new();
                for session in &expired {
                    if ownerless.len() < limit as usize
                        && !owns_runs.exists(named_params! { ":session": session })?
                    {
                        ownerless.push(*session);
                    }
                }
                Ok((ownerless, rows))
            })
            .await?;
        let mut sessions = self.sessions.lock();
        let before = sessions.len();
        // One may have come back meanwhile.
        sessions.retain(|session, expires_at| *expires_at > asked_at || !forgotten.contains(session));
        Ok(rows + (before - sessions.len()) as u64)
    }
}
