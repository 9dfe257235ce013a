//! Answers kept for idempotency keys.

use std::collections::HashSet;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use uuid::Uuid;
use windlass_model::{Digest, TenantId};
use windlass_store::{IdempotencyKey, Remember, Reply};

use crate::fault::Fault;
use crate::query;

/// The row id of a key: a digest of all that makes two requests the same request.
pub(crate) fn key_id(tenant: TenantId, key: &IdempotencyKey) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&tenant.0.to_le_bytes());
    for part in [&key.principal, &key.route, &key.key] {
        // With its length, so that no two keys run together to the same bytes.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Uuid::from_bytes(bytes)
}

/// The columns of answers that are about to be kept.
#[derive(Default)]
pub(crate) struct ReplyColumns<'a> {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) principals: Vec<&'a str>,
    pub(crate) routes: Vec<&'a str>,
    pub(crate) keys: Vec<&'a str>,
    pub(crate) requests: Vec<&'a str>,
    pub(crate) statuses: Vec<i32>,
    pub(crate) bodies: Vec<String>,
    pub(crate) locations: Vec<Option<&'a str>>,
}

impl<'a> ReplyColumns<'a> {
    pub(crate) fn push(&mut self, id: Uuid, Remember { key, reply }: &'a Remember) {
        self.ids.push(id);
        self.principals.push(&key.principal);
        self.routes.push(&key.route);
        self.keys.push(&key.key);
        self.requests.push(&reply.request.0);
        self.statuses.push(reply.status.into());
        self.bodies.push(reply.body.to_string());
        self.locations.push(reply.location.as_deref());
    }
}

/// Keeps answers, and returns the keys that were free. Wants a transaction around it.
pub(crate) async fn remember(
    db: &mut PgConnection,
    answers: &[(TenantId, &Remember)],
) -> Result<HashSet<Uuid>, Fault> {
    let (mut columns, mut tenants) = (ReplyColumns::default(), Vec::new());
    for (tenant, answer) in answers {
        columns.push(key_id(*tenant, &answer.key), answer);
        tenants.push(tenant.0);
    }
    let rows = sqlx::query(query!("remember"))
        .bind(columns.ids)
        .bind(tenants)
        .bind(columns.principals)
        .bind(columns.routes)
        .bind(columns.keys)
        .bind(columns.requests)
        .bind(columns.statuses)
        .bind(columns.bodies)
        .bind(columns.locations)
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Frees keys again that were kept by the same transaction.
pub(crate) async fn forget(db: &mut PgConnection, ids: Vec<Uuid>) -> Result<(), Fault> {
    sqlx::query(query!("forget")).bind(ids).execute(db).await?;
    Ok(())
}

pub(crate) async fn find(
    db: &mut PgConnection,
    tenant: TenantId,
    key: &IdempotencyKey,
) -> Result<Option<Reply>, Fault> {
    let found = sqlx::query(query!("find_reply"))
        .bind(key_id(tenant, key))
        .bind(tenant.0)
        .bind(&key.principal)
        .bind(&key.route)
        .bind(&key.key)
        .fetch_optional(db)
        .await?;
    let Some(row) = found else { return Ok(None) };
    let (status, body): (i32, &str) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Some(Reply {
        request: Digest(row.try_get(0)?),
        status: u16::try_from(status)
            .map_err(|_| Fault::damaged(format!("a kept reply has status {status}")))?,
        body: serde_json::from_str(body).map_err(|error| Fault::damaged(format!("a kept reply: {error}")))?,
        location: row.try_get(3)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_anywhere_have_different_ids() {
        let key = |principal: &str, route: &str, key: &str| IdempotencyKey {
            principal: principal.into(),
            route: route.into(),
            key: key.into(),
        };
        let ids: HashSet<_> = [
            (TenantId(1), key("a", "b", "c")),
            (TenantId(2), key("a", "b", "c")),
            (TenantId(1), key("ab", "", "c")),
            (TenantId(1), key("a", "bc", "")),
            (TenantId(1), key("", "ab", "c")),
        ]
        .iter()
        .map(|(tenant, key)| key_id(*tenant, key))
        .collect();
        assert_eq!(ids.len(), 5);
    }
}
