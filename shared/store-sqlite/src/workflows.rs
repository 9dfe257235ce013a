//! Workflows and the definitions that runs are pinned to.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::{Digest, TenantId, Timestamp, VersionId};
use windlass_store::{
    Definition, NewWorkflow, Precondition, PutWorkflow, StoreError, VersionRow, WorkflowFilter, WorkflowRow,
    Workflows, WriteError,
};

use crate::fault::Fault;
use crate::{SqliteStore, query, replies, rows};

#[async_trait]
impl Workflows for SqliteStore {
    async fn put_workflow(&self, new: NewWorkflow) -> Result<PutWorkflow, WriteError> {
        self.write(move |db, now| put(db, &new, now)).await
    }

    async fn get_workflow(&self, tenant: TenantId, name: &str) -> Result<Option<WorkflowRow>, StoreError> {
        let name = name.to_owned();
        self.read(move |db, _| get(db, tenant, &name)).await
    }

    async fn list_workflows(
        &self,
        tenant: TenantId,
        filter: &WorkflowFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError> {
        let (filter, after) = (filter.clone(), after.unwrap_or_default().to_owned());
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("list_workflows"))?;
            let rows = statement.query_map(
                named_params! {
                    ":tenant": tenant.0,
                    ":tag": filter.tag,
                    ":text": filter.text,
                    ":after": after,
                    ":limit": limit,
                },
                rows::workflow,
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
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
        self.write(move |db, now| {
            let hidden = db.prepare_cached(query!("delete_workflow"))?.execute(named_params! {
                ":tenant": tenant.0,
                ":name": name,
                ":revision": revision,
                ":now": now.0,
            })?;
            match hidden {
                0 if get(db, tenant, &name)?.is_some() => Err(WriteError::Moved.into()),
                hidden => Ok(hidden > 0),
            }
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
        self.read(move |db, _| {
            let moment = db.unchecked_transaction()?;
            if get(&moment, tenant, &name)?.is_none() {
                return Ok(None);
            }
            let mut statement = moment.prepare_cached(query!("list_versions"))?;
            let rows = statement.query_map(
                named_params! { ":tenant": tenant.0, ":name": name, ":before": before, ":limit": limit },
                rows::version,
            )?;
            Ok(Some(rows.collect::<Result<_, _>>()?))
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
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("get_version"))?;
            let parameters = named_params! { ":tenant": tenant.0, ":name": name, ":version": version };
            Ok(statement.query_row(parameters, rows::version).optional()?)
        })
        .await
    }

    async fn get_definition(&self, id: VersionId) -> Result<Option<VersionRow>, StoreError> {
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("get_definition"))?;
            Ok(statement.query_row(named_params! { ":id": id.0 }, rows::version).optional()?)
        })
        .await
    }

    async fn put_inline(&self, tenant: TenantId, definition: Definition) -> Result<VersionId, StoreError> {
        self.write_always(move |db, now| {
            let Definition { name, hash, spec } = &definition;
            db.prepare_cached(query!("put_inline"))?.execute(named_params! {
                ":tenant": tenant.0,
                ":name": name,
                ":hash": hash.0,
                ":spec": spec,
                ":now": now.0,
            })?;
            let mut statement = db.prepare_cached(query!("put_inline.find"))?;
            let id = statement
                .query_row(named_params! { ":tenant": tenant.0, ":hash": hash.0 }, |row| row.get(0))?;
            Ok(VersionId(id))
        })
        .await
    }
}

fn get(db: &Connection, tenant: TenantId, name: &str) -> Result<Option<WorkflowRow>, Fault> {
    let mut statement = db.prepare_cached(query!("get_workflow"))?;
    let parameters = named_params! { ":tenant": tenant.0, ":name": name };
    Ok(statement.query_row(parameters, rows::workflow).optional()?)
}

fn put(db: &Connection, new: &NewWorkflow, now: Timestamp) -> Result<PutWorkflow, Fault> {
    let NewWorkflow { tenant, definition, tags, precondition, remember } = new;
    replies::remember(db, *tenant, remember.as_ref(), now)?;
    let before = before(db, *tenant, &definition.name)?;
    let visible = before.as_ref().filter(|(_, is_hidden)| !is_hidden).map(|(row, _)| row.revision);
    let holds = match *precondition {
        Precondition::Absent => visible.is_none(),
        Precondition::Revision(revision) => visible == Some(revision),
        Precondition::None => true,
    };
    if !holds {
        return Err(WriteError::Moved.into());
    }
    let is_known = before.is_some();
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
    write(db, *tenant, &row, is_known)?;
    if new_version {
        db.prepare_cached(query!("put_workflow.version"))?.execute(named_params! {
            ":tenant": tenant.0,
            ":name": row.name,
            ":version": row.latest_version,
            ":hash": row.hash.0,
            ":spec": definition.spec,
            ":now": now.0,
        })?;
    }
    Ok(PutWorkflow { workflow: row, created, new_version })
}

/// The workflow as it stands, and whether it is hidden.
fn before(db: &Connection, tenant: TenantId, name: &str) -> Result<Option<(WorkflowRow, bool)>, Fault> {
    let mut statement = db.prepare_cached(query!("put_workflow.before"))?;
    let parameters = named_params! { ":tenant": tenant.0, ":name": name };
    Ok(statement.query_row(parameters, |row| Ok((rows::workflow(row)?, row.get("is_hidden")?))).optional()?)
}

fn write(db: &Connection, tenant: TenantId, row: &WorkflowRow, is_known: bool) -> rusqlite::Result<()> {
    let sql = if is_known { query!("put_workflow.update") } else { query!("put_workflow.insert") };
    let tags = serde_json::to_string(&row.tags).expect("a list of strings is plain data");
    db.prepare_cached(sql)?
        .execute(named_params! {
            ":tenant": tenant.0,
            ":name": row.name,
            ":revision": row.revision,
            ":latest_version": row.latest_version,
            ":hash": row.hash.0,
            ":tags": tags,
            ":created_at": row.created_at.0,
            ":updated_at": row.updated_at.0,
        })
        .map(drop)
}
