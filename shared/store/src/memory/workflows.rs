//! Workflows and the definitions that runs are pinned to.

use async_trait::async_trait;
use windlass_model::{RunId, TenantId, Timestamp, VersionId};

use super::MemoryStore;
use super::tables::{Tables, Version, Workflow};
use crate::stored::contains_ignoring_case;
use crate::{
    Definition, NewWorkflow, Precondition, PutWorkflow, StoreError, VersionRow, WorkflowFilter, WorkflowRow,
    Workflows, WriteError,
};

#[async_trait]
impl Workflows for MemoryStore {
    async fn put_workflow(&self, new: NewWorkflow) -> Result<PutWorkflow, WriteError> {
        self.write(|tables, now| put(tables, new, now))
    }

    async fn get_workflow(&self, tenant: TenantId, name: &str) -> Result<Option<WorkflowRow>, StoreError> {
        self.read(|tables, _| Ok(tables.visible(tenant, name).cloned()))
    }

    async fn list_workflows(
        &self,
        tenant: TenantId,
        filter: &WorkflowFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError> {
        self.read(|tables, _| {
            let visible =
                tables.workflows.iter().filter(|((owner, _), it)| *owner == tenant && !it.is_hidden);
            let page = visible
                .map(|(_, workflow)| &workflow.row)
                .filter(|row| after.is_none_or(|after| row.name.as_str() > after))
                .filter(|row| filter.tag.as_ref().is_none_or(|tag| row.tags.contains(tag)))
                .filter(|row| {
                    filter.text.as_ref().is_none_or(|text| contains_ignoring_case(&row.name, text))
                });
            Ok(page.take(limit as usize).cloned().collect())
        })
    }

    async fn delete_workflow(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        self.write(|tables, now| {
            let found = tables.workflows.get_mut(&(tenant, name.to_owned())).filter(|it| !it.is_hidden);
            let Some(workflow) = found else { return Ok(false) };
            if revision.is_some_and(|revision| revision != workflow.row.revision) {
                return Err(WriteError::Moved);
            }
            workflow.is_hidden = true;
            workflow.row.revision += 1;
            workflow.row.updated_at = now;
            Ok(true)
        })
    }

    async fn list_versions(
        &self,
        tenant: TenantId,
        name: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Option<Vec<VersionRow>>, StoreError> {
        self.read(|tables, _| {
            if tables.visible(tenant, name).is_none() {
                return Ok(None);
            }
            let mut rows: Vec<_> = tables
                .numbered(tenant, name)
                .filter(|row| before.is_none_or(|before| row.version < Some(before)))
                .cloned()
                .collect();
            rows.sort_by_key(|row| std::cmp::Reverse(row.version));
            rows.truncate(limit as usize);
            Ok(Some(rows))
        })
    }

    async fn get_version(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<VersionRow>, StoreError> {
        self.read(|tables, _| {
            let Some(workflow) = tables.visible(tenant, name) else { return Ok(None) };
            let wanted = Some(version.unwrap_or(workflow.latest_version));
            Ok(tables.numbered(tenant, name).find(|row| row.version == wanted).cloned())
        })
    }

    async fn get_definition(&self, id: VersionId) -> Result<Option<VersionRow>, StoreError> {
        self.read(|tables, _| Ok(tables.versions.get(&id).map(|version| version.row.clone())))
    }

    async fn put_inline(&self, tenant: TenantId, definition: Definition) -> Result<VersionId, StoreError> {
        self.write_always(|tables, now| {
            let same = tables
                .versions
                .values()
                .find(|it| it.tenant == tenant && it.row.version.is_none() && it.row.hash == definition.hash);
            Ok(match same {
                Some(version) => version.row.id,
                None => tables.add_version(tenant, definition, None, now),
            })
        })
    }
}

impl Tables {
    pub(super) fn visible(&self, tenant: TenantId, name: &str) -> Option<&WorkflowRow> {
        self.workflows.get(&(tenant, name.to_owned())).filter(|it| !it.is_hidden).map(|it| &it.row)
    }

    fn numbered(&self, tenant: TenantId, name: &str) -> impl Iterator<Item = &VersionRow> {
        self.versions
            .values()
            .filter(move |it| it.tenant == tenant && it.row.name == name && it.row.version.is_some())
            .map(|it| &it.row)
    }

    /// The version that a run of the same workflow would have now.
    pub(super) fn newest_version(&self, run_id: RunId) -> Option<VersionId> {
        let row = &self.runs.get(&run_id)?.row;
        let newest = self.visible(row.tenant, &row.workflow)?.latest_version;
        row.workflow_version?;
        self.numbered(row.tenant, &row.workflow).find(|it| it.version == Some(newest)).map(|it| it.id)
    }

    fn add_version(
        &mut self,
        tenant: TenantId,
        definition: Definition,
        version: Option<u32>,
        now: Timestamp,
    ) -> VersionId {
        let id = VersionId(self.versions.len() as i64 + 1);
        let Definition { name, hash, spec } = definition;
        self.versions.insert(
            id,
            Version { tenant, row: VersionRow { id, name, version, hash, spec, created_at: now } },
        );
        id
    }
}

fn put(tables: &mut Tables, new: NewWorkflow, now: Timestamp) -> Result<PutWorkflow, WriteError> {
    let NewWorkflow { tenant, definition, tags, precondition, remember } = new;
    tables.check_key(tenant, remember.as_ref())?;
    let place = (tenant, definition.name.clone());
    let before = tables.workflows.get(&place);
    let visible = before.filter(|it| !it.is_hidden).map(|it| it.row.revision);
    let holds = match precondition {
        Precondition::Absent => visible.is_none(),
        Precondition::Revision(revision) => visible == Some(revision),
        Precondition::None => true,
    };
    if !holds {
        return Err(WriteError::Moved);
    }
    let created = visible.is_none();
    let new_version = before.is_none_or(|it| it.row.hash != definition.hash);
    let is_changed = created || new_version || before.is_none_or(|it| it.row.tags != tags);
    let mut row = before.map(|it| it.row.clone()).unwrap_or_else(|| WorkflowRow {
        name: definition.name.clone(),
        revision: 0,
        latest_version: 0,
        hash: definition.hash.clone(),
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    });
    if is_changed {
        row.revision += 1;
        row.updated_at = now;
        row.tags = tags;
    }
    if created {
        row.created_at = now;
    }
    if new_version {
        row.latest_version += 1;
        row.hash = definition.hash.clone();
        tables.add_version(tenant, definition, Some(row.latest_version), now);
    }
    tables.workflows.insert(place, Workflow { row: row.clone(), is_hidden: false });
    tables.remember(tenant, remember, now);
    Ok(PutWorkflow { workflow: row, created, new_version })
}
