//! Workflows and the definitions that runs are pinned to.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use windlass_model::{Digest, TenantId, VersionId};
use windlass_store::{
    Definition, NewWorkflow, Precondition, PutWorkflow, StoreError, VersionRow, WorkflowFilter, WorkflowRow,
    Workflows, WriteError,
};

use crate::fault::Fault;
use crate::types::{At, int4};
use crate::{PostgresStore, query, replies, rows};

#[async_trait]
impl Workflows for PostgresStore {
    async fn put_workflow(&self, new: NewWorkflow) -> Result<PutWorkflow, WriteError> {
        self.lookups.run_whole(move |db| Box::pin(async move { put(db, &new).await })).await
    }

    async fn get_workflow(&self, tenant: TenantId, name: &str) -> Result<Option<WorkflowRow>, StoreError> {
        let name = name.to_owned();
        self.lookups.find(move |db| Box::pin(async move { get(db, tenant, &name).await })).await
    }

    async fn list_workflows(
        &self,
        tenant: TenantId,
        filter: &WorkflowFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError> {
        let (filter, after) = (filter.clone(), after.unwrap_or_default().to_owned());
        self.searches
            .find(move |db| {
                Box::pin(async move {
                    let found = sqlx::query(query!("list_workflows"))
                        .bind(tenant.0)
                        .bind(after)
                        .bind(filter.tag)
                        .bind(filter.text)
                        .bind(i64::from(limit))
                        .fetch_all(db)
                        .await?;
                    rows::all(&found, rows::workflow)
                })
            })
            .await
    }

    async fn delete_workflow(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        let name = name.to_owned();
        self.lookups
            .run(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("delete_workflow")).bind(tenant.0).bind(&name);
                    let hidden = query.bind(revision.map(int4)).execute(&mut *db).await?.rows_affected();
                    match hidden {
                        0 if get(db, tenant, &name).await?.is_some() => Err(WriteError::Moved.into()),
                        hidden => Ok(hidden > 0),
                    }
                })
            })
            .await
    }

    async fn list_versions(
        &self,
        tenant: TenantId,
        name: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Option<Vec<VersionRow>>, StoreError> {
        let name = name.to_owned();
        self.searches
            .find(move |db| {
                Box::pin(async move {
                    if get(db, tenant, &name).await?.is_none() {
                        return Ok(None);
                    }
                    let query = sqlx::query(query!("list_versions")).bind(tenant.0).bind(name);
                    let query = query.bind(before.map(i64::from)).bind(i64::from(limit));
                    rows::all(&query.fetch_all(db).await?, rows::version).map(Some)
                })
            })
            .await
    }

    async fn get_version(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<VersionRow>, StoreError> {
        let name = name.to_owned();
        self.lookups
            .find(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("get_version")).bind(tenant.0).bind(name);
                    let found = query.bind(version.map(int4)).fetch_optional(db).await?;
                    found.as_ref().map(rows::version).transpose()
                })
            })
            .await
    }

    async fn get_definition(&self, id: VersionId) -> Result<Option<VersionRow>, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let found = sqlx::query(query!("get_definition")).bind(id.0).fetch_optional(db).await?;
                    found.as_ref().map(rows::version).transpose()
                })
            })
            .await
    }

    async fn put_inline(&self, tenant: TenantId, definition: Definition) -> Result<VersionId, StoreError> {
        self.lookups.ask(move |db| Box::pin(async move { put_inline(db, tenant, &definition).await })).await
    }
}

async fn put_inline(
    db: &mut PgConnection,
    tenant: TenantId,
    Definition { name, hash, spec }: &Definition,
) -> Result<VersionId, Fault> {
    // Looked for first: most are there, and a refused insert would use up a number and leave a dead row.
    let find = || sqlx::query(query!("put_inline.find")).bind(tenant.0).bind(&hash.0);
    if let Some(row) = find().fetch_optional(&mut *db).await? {
        return Ok(VersionId(row.try_get(0)?));
    }
    let query = sqlx::query(query!("put_inline")).bind(tenant.0).bind(name).bind(&hash.0).bind(spec);
    let row = match query.fetch_optional(&mut *db).await? {
        Some(row) => row,
        // Somebody else was first, and has committed: else the insert would still wait.
        None => find().fetch_one(db).await?,
    };
    Ok(VersionId(row.try_get(0)?))
}

async fn get(db: &mut PgConnection, tenant: TenantId, name: &str) -> Result<Option<WorkflowRow>, Fault> {
    let found = sqlx::query(query!("get_workflow")).bind(tenant.0).bind(name).fetch_optional(db).await?;
    found.as_ref().map(rows::workflow).transpose()
}

async fn put(db: &mut PgConnection, new: &NewWorkflow) -> Result<PutWorkflow, Fault> {
    let NewWorkflow { tenant, definition, tags, precondition, remember } = new;
    if let Some(remember) = remember {
        let free = replies::remember(db, &[(*tenant, remember)]).await?;
        if free.is_empty() {
            return Err(WriteError::KeyTaken.into());
        }
    }
    // A name that is not there yet has no row to lock.
    sqlx::query(query!("put_workflow.lock"))
        .bind(&definition.name)
        .bind(i64::from(tenant.0))
        .execute(&mut *db)
        .await?;
    let before = before(db, *tenant, &definition.name).await?;
    let is_known = before.is_some();
    let visible = before.as_ref().filter(|(_, is_hidden)| !is_hidden).map(|(row, _)| row.revision);
    let holds = match precondition {
        Precondition::Absent => visible.is_none(),
        Precondition::Revision(revision) => visible == Some(*revision),
        Precondition::None => true,
    };
    if !holds {
        return Err(WriteError::Moved.into());
    }
    let now = sqlx::query(query!("now")).fetch_one(&mut *db).await?.try_get::<At, _>(0)?.into();
    let created = visible.is_none();
    let mut row = before.map(|(row, _)| row).unwrap_or_else(|| WorkflowRow {
        name: definition.name.clone(),
        revision: 0,
        latest_version: 0,
        hash: Digest(String::new()),
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    });
    let new_version = row.hash != definition.hash;
    if !(created || new_version || row.tags != *tags) {
        return Ok(PutWorkflow { workflow: row, created, new_version });
    }
    row.revision += 1;
    row.latest_version += u32::from(new_version);
    row.hash = definition.hash.clone();
    row.tags.clone_from(tags);
    row.updated_at = now;
    if created {
        row.created_at = now;
    }
    write(db, *tenant, &row, is_known).await?;
    if new_version {
        write_version(db, *tenant, &row, definition).await?;
    }
    Ok(PutWorkflow { workflow: row, created, new_version })
}

/// The workflow as it stands, and whether it is hidden.
async fn before(
    db: &mut PgConnection,
    tenant: TenantId,
    name: &str,
) -> Result<Option<(WorkflowRow, bool)>, Fault> {
    let found =
        sqlx::query(query!("put_workflow.before")).bind(tenant.0).bind(name).fetch_optional(db).await?;
    let read = |row: &_| -> Result<_, Fault> { Ok((rows::workflow(row)?, row.try_get("is_hidden")?)) };
    found.as_ref().map(read).transpose()
}

async fn write(
    db: &mut PgConnection,
    tenant: TenantId,
    row: &WorkflowRow,
    is_known: bool,
) -> Result<(), Fault> {
    let sql = if is_known { query!("put_workflow.update") } else { query!("put_workflow.insert") };
    sqlx::query(sql)
        .bind(tenant.0)
        .bind(&row.name)
        .bind(int4(row.revision))
        .bind(int4(row.latest_version))
        .bind(&row.hash.0)
        .bind(&row.tags)
        .bind(At(row.created_at))
        .bind(At(row.updated_at))
        .execute(db)
        .await?;
    Ok(())
}

async fn write_version(
    db: &mut PgConnection,
    tenant: TenantId,
    row: &WorkflowRow,
    definition: &Definition,
) -> Result<(), Fault> {
    sqlx::query(query!("put_workflow.version"))
        .bind(tenant.0)
        .bind(&row.name)
        .bind(int4(row.latest_version))
        .bind(&definition.hash.0)
        .bind(&definition.spec)
        .bind(At(row.updated_at))
        .execute(db)
        .await?;
    Ok(())
}
