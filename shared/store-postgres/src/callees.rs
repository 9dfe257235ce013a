//! Tools and agents.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use windlass_model::TenantId;
use windlass_model::callee::CalleeKind;
use windlass_store::{CalleeRow, Callees, NewCallee, PutCallee, StoreError, WriteError};

use crate::fault::Fault;
use crate::types::{At, int4};
use crate::{PostgresStore, query, replies, rows};

#[async_trait]
impl Callees for PostgresStore {
    async fn put_callee(&self, new: NewCallee) -> Result<PutCallee, WriteError> {
        self.lookups.run_whole(move |db| Box::pin(async move { put(db, &new).await })).await
    }

    async fn get_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
    ) -> Result<Option<(CalleeRow, String)>, StoreError> {
        let name = name.to_owned();
        self.lookups.find(move |db| Box::pin(async move { get(db, tenant, kind, &name).await })).await
    }

    async fn list_callees(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CalleeRow>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.searches
            .find(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("list_callees")).bind(tenant.0).bind(kind.as_str());
                    let found = query.bind(after).bind(i64::from(limit)).fetch_all(db).await?;
                    rows::all(&found, rows::callee)
                })
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
        self.lookups
            .run(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("delete_callee")).bind(tenant.0).bind(kind.as_str());
                    let query = query.bind(&name).bind(revision.map(int4));
                    let deleted = query.execute(&mut *db).await?.rows_affected();
                    match deleted {
                        0 if get(db, tenant, kind, &name).await?.is_some() => Err(WriteError::Moved.into()),
                        deleted => Ok(deleted > 0),
                    }
                })
            })
            .await
    }
}

async fn get(
    db: &mut PgConnection,
    tenant: TenantId,
    kind: CalleeKind,
    name: &str,
) -> Result<Option<(CalleeRow, String)>, Fault> {
    let query = sqlx::query(query!("get_callee")).bind(tenant.0).bind(kind.as_str()).bind(name);
    let found = query.fetch_optional(db).await?;
    let read = |row: &_| -> Result<_, Fault> { Ok((rows::callee(row)?, row.try_get("spec")?)) };
    found.as_ref().map(read).transpose()
}

async fn put(db: &mut PgConnection, new: &NewCallee) -> Result<PutCallee, Fault> {
    if let Some(remember) = &new.remember {
        let free = replies::remember(db, &[(new.tenant, remember)]).await?;
        if free.is_empty() {
            return Err(WriteError::KeyTaken.into());
        }
    }
    // A name that is not there yet has no row to lock.
    let lock = sqlx::query(query!("put_workflow.lock")).bind(&new.name).bind(i64::from(new.tenant.0));
    lock.execute(&mut *db).await?;
    let query = sqlx::query(query!("put_callee.before")).bind(new.tenant.0);
    let found = query.bind(new.kind.as_str()).bind(&new.name).fetch_optional(&mut *db).await?;
    let read = |row: &_| -> Result<_, Fault> { Ok((rows::callee(row)?, row.try_get("is_deleted")?)) };
    let before = found.as_ref().map(read).transpose()?;
    let now = sqlx::query(query!("now")).fetch_one(&mut *db).await?.try_get::<At, _>(0)?.into();
    let put = new.onto(before, now)?;
    if put.changed {
        sqlx::query(query!("put_callee"))
            .bind(new.tenant.0)
            .bind(new.kind.as_str())
            .bind(&put.callee.name)
            .bind(int4(put.callee.revision))
            .bind(&put.callee.hash.0)
            .bind(&put.callee.risk)
            .bind(At(put.callee.created_at))
            .bind(At(put.callee.updated_at))
            .bind(&new.spec)
            .execute(db)
            .await?;
    }
    Ok(put)
}
