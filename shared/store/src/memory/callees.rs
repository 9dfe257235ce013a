//! Tools and agents.

use async_trait::async_trait;
use windlass_model::TenantId;
use windlass_model::callee::CalleeKind;

use super::MemoryStore;
use super::tables::Callee;
use crate::{CalleeRow, Callees, NewCallee, PutCallee, StoreError, WriteError};

#[async_trait]
impl Callees for MemoryStore {
    async fn put_callee(&self, new: NewCallee) -> Result<PutCallee, WriteError> {
        self.write(|tables, now| {
            tables.check_key(new.tenant, new.remember.as_ref())?;
            let place = (new.tenant, new.kind, new.name.clone());
            let before = tables.callees.get(&place).map(|it| (it.row.clone(), it.is_deleted));
            let put = new.onto(before, now)?;
            if put.changed {
                let callee = Callee { row: put.callee.clone(), spec: new.spec, is_deleted: false };
                tables.callees.insert(place, callee);
            }
            tables.remember(new.tenant, new.remember, now);
            Ok(put)
        })
    }

    async fn get_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
    ) -> Result<Option<(CalleeRow, String)>, StoreError> {
        self.read(|tables, _| {
            let found = tables.callees.get(&(tenant, kind, name.to_owned())).filter(|it| !it.is_deleted);
            Ok(found.map(|it| (it.row.clone(), it.spec.clone())))
        })
    }

    async fn list_callees(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CalleeRow>, StoreError> {
        self.read(|tables, _| {
            let page = tables
                .callees
                .iter()
                .filter(|((owner, of, _), it)| (*owner, *of) == (tenant, kind) && !it.is_deleted)
                .map(|(_, it)| &it.row)
                .filter(|row| after.is_none_or(|after| row.name.as_str() > after));
            Ok(page.take(limit as usize).cloned().collect())
        })
    }

    async fn delete_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        self.write(|tables, now| {
            let found = tables.callees.get_mut(&(tenant, kind, name.to_owned())).filter(|it| !it.is_deleted);
            let Some(callee) = found else { return Ok(false) };
            if revision.is_some_and(|revision| revision != callee.row.revision) {
                return Err(WriteError::Moved);
            }
            callee.is_deleted = true;
            callee.row.revision += 1;
            callee.row.updated_at = now;
            Ok(true)
        })
    }
}
