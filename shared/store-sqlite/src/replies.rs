//! Answers kept for idempotency keys.

use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::{Digest, TenantId, Timestamp};
use windlass_store::{IdempotencyKey, Remember, Reply, WriteError};

use crate::fault::Fault;
use crate::query;

/// Keeps the answer beside the deed that it belongs to.
pub(crate) fn remember(
    db: &Connection,
    tenant: TenantId,
    remember: Option<&Remember>,
    now: Timestamp,
) -> Result<(), Fault> {
    let Some(Remember { key, reply }) = remember else { return Ok(()) };
    let kept = db.prepare_cached(query!("remember"))?.execute(named_params! {
        ":tenant": tenant.0,
        ":principal": key.principal,
        ":route": key.route,
        ":key": key.key,
        ":request": reply.request.0,
        ":status": reply.status,
        ":body": reply.body.to_string(),
        ":location": reply.location,
        ":now": now.0,
    })?;
    if kept == 0 { Err(WriteError::KeyTaken.into()) } else { Ok(()) }
}

pub(crate) fn find(db: &Connection, tenant: TenantId, key: &IdempotencyKey) -> Result<Option<Reply>, Fault> {
    let found = db
        .prepare_cached(query!("find_reply"))?
        .query_row(
            named_params! {
                ":tenant": tenant.0,
                ":principal": key.principal,
                ":route": key.route,
                ":key": key.key,
            },
            |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?)),
        )
        .optional()?;
    let Some((request, status, body, location)) = found else { return Ok(None) };
    let body =
        serde_json::from_str(&body).map_err(|error| Fault::damaged(format!("a kept reply: {error}")))?;
    Ok(Some(Reply { request: Digest(request), status, body, location }))
}
