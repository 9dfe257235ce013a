//! Sessions, replies, the outbox and blobs.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use windlass_model::circuit::CircuitState;
use windlass_model::{Digest, SessionId, TenantId, Timestamp};

use super::MemoryStore;
use super::tables::reply_key;
use crate::{Blobs, IdempotencyKey, Outbox, OutboxRow, OutboxSettlement, Reply, Sessions, StoreError};

#[async_trait]
impl Sessions for MemoryStore {
    async fn renew_session(&self, session: SessionId, ttl: Duration) -> Result<Timestamp, StoreError> {
        self.write_always(|tables, now| {
            tables.sessions.insert(session, now.plus(ttl));
            Ok(now)
        })
    }

    async fn close_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.write_always(|tables, _| {
            tables.sessions.remove(&session);
            Ok(())
        })
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.read(|_, now| Ok(now))
    }

    async fn find_reply(&self, tenant: TenantId, key: &IdempotencyKey) -> Result<Option<Reply>, StoreError> {
        self.read(|tables, _| Ok(tables.replies.get(&reply_key(tenant, key)).map(|(reply, _)| reply.clone())))
    }

    async fn clean_up(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write_always(|tables, now| {
            let mut replies: Vec<_> = tables
                .replies
                .iter()
                .filter(|(_, (_, kept_at))| kept_at.plus(age) < now)
                .map(|(key, (_, kept_at))| (*kept_at, key.clone()))
                .collect();
            replies.sort();
            replies.truncate(limit as usize);
            for (_, key) in &replies {
                tables.replies.remove(key);
            }
            let is_owner = |session| tables.runs.values().any(|run| run.row.lease_owner == Some(session));
            let mut dead: Vec<_> = tables
                .sessions
                .keys()
                .copied()
                .filter(|it| !tables.is_alive(*it, now) && !is_owner(*it))
                .collect();
            dead.truncate(limit as usize);
            for session in &dead {
                tables.sessions.remove(session);
            }
            let circuits = first(limit, &tables.circuits, |it| {
                it.state == CircuitState::Closed && it.window_ends_at.plus(age) < now
            });
            for key in &circuits {
                tables.circuits.remove(key);
            }
            let limits = first(limit, &tables.rate_limits, |it| it.taken_until.plus(age) < now);
            for key in &limits {
                tables.rate_limits.remove(key);
            }
            Ok((replies.len() + dead.len() + circuits.len() + limits.len()) as u64)
        })
    }
}

/// The keys of those that are meant, no more than `limit`.
fn first<K: Clone, V>(limit: u32, rows: &BTreeMap<K, V>, is_meant: impl Fn(&V) -> bool) -> Vec<K> {
    rows.iter().filter(|(_, row)| is_meant(row)).map(|(key, _)| key.clone()).take(limit as usize).collect()
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn read_outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.read(|tables, now| {
            let mut due: Vec<_> =
                tables.outbox.values().filter(|entry| entry.dead.is_none() && entry.due_at <= now).collect();
            due.sort_by_key(|entry| (entry.due_at, entry.row.id));
            Ok(due.into_iter().take(limit as usize).map(|entry| entry.row.clone()).collect())
        })
    }

    async fn settle_outbox(&self, settlements: Vec<OutboxSettlement>) -> Result<(), StoreError> {
        self.write_always(|tables, now| {
            for settlement in settlements {
                match settlement {
                    OutboxSettlement::Delivered { id } => {
                        tables.outbox.remove(&id);
                    }
                    OutboxSettlement::Failed { id, error: _, retry_after } => {
                        if let Some(entry) = tables.outbox.get_mut(&id) {
                            entry.row.attempts += 1;
                            entry.due_at = now.plus(retry_after);
                        }
                    }
                    OutboxSettlement::Dead { id, error } => {
                        if let Some(entry) = tables.outbox.get_mut(&id) {
                            entry.row.attempts += 1;
                            entry.dead = Some(error);
                        }
                    }
                }
            }
            Ok(())
        })
    }
}

#[async_trait]
impl Blobs for MemoryStore {
    async fn get_blob(&self, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|tables, _| Ok(tables.blobs.get(&(tenant, digest.clone())).map(|content| content.to_vec())))
    }
}
