//! Tools and agents.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::callee::CalleeKind;
use windlass_model::{TenantId, Timestamp};
use windlass_store::{CalleeRow, Callees, NewCallee, PutCallee, StoreError, WriteError};

use crate::fault::Fault;
use crate::{SqliteStore, query, replies, rows};

#[async_trait]
impl Callees for SqliteStore {
    async fn put_callee(&self, new: NewCallee) -> Result<PutCallee, WriteError> {
        self.write(move |db, now| put(db, &new, now)).await
    }

    async fn get_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
    ) -> Result<Option<(CalleeRow, String)>, StoreError> {
        let name = name.to_owned();
        self.read(move |db, _| get(db, tenant, kind, &name)).await
    }

    async fn list_callees(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CalleeRow>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("list_callees"))?;
            let rows = statement.query_map(
                named_params! { ":tenant": tenant.0, ":kind": kind.as_str(), ":after": after, ":limit": limit },
                rows::callee,
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn delete_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        let name = name.to_owned();
        self.write(move |db, now| {
            let deleted = db.prepare_cached(query!("delete_callee"))?.execute(named_params! {
                ":tenant": tenant.0,
                ":kind": kind.as_str(),
                ":name": name,
                ":revision": revision,
                ":now": now.0,
            })?;
            match deleted {
                0 if get(db, tenant, kind, &name)?.is_some() => Err(WriteError::Moved.into()),
                deleted => Ok(deleted > 0),
            }
        })
        .await
    }
}

fn get(
    db: &Connection,
    tenant: TenantId,
    kind: CalleeKind,
    name: &str,
) -> Result<Option<(CalleeRow, String)>, Fault> {
    let mut statement = db.prepare_cached(query!("get_callee"))?;
    let parameters = named_params! { ":tenant": tenant.0, ":kind": kind.as_str(), ":name": name };
    Ok(statement.query_row(parameters, |row| Ok((rows::callee(row)?, row.get("spec")?))).optional()?)
}

fn put(db: &Connection, new: &NewCallee, now: Timestamp) -> Result<PutCallee, Fault> {
    replies::remember(db, new.tenant, new.remember.as_ref(), now)?;
    let kind = new.kind.as_str();
    let before = db
        .prepare_cached(query!("put_callee.before"))?
        .query_row(named_params! { ":tenant": new.tenant.0, ":kind": kind, ":name": new.name }, |row| {
            Ok((rows::callee(row)?, row.get("is_deleted")?))
        })
        .optional()?;
    let put = new.onto(before, now)?;
    if put.changed {
        db.prepare_cached(query!("put_callee"))?.execute(named_params! {
            ":tenant": new.tenant.0,
            ":kind": kind,
            ":name": new.name,
            ":revision": put.callee.revision,
            ":hash": put.callee.hash.0,
            ":risk": put.callee.risk,
            ":created_at": put.callee.created_at.0,
            ":updated_at": put.callee.updated_at.0,
            ":spec": new.spec,
        })?;
    }
    Ok(put)
}
