//! Schedules.

use async_trait::async_trait;
use windlass_model::{RunId, TenantId, Timestamp, planted};

use super::MemoryStore;
use super::tables::Tables;
use crate::{Firing, NewSchedule, ScheduleRow, Schedules, StoreError, WriteError};

#[async_trait]
impl Schedules for MemoryStore {
    async fn put_schedule(&self, new: NewSchedule) -> Result<(ScheduleRow, bool), WriteError> {
        self.write(|tables, now| {
            tables.check_key(new.tenant, new.remember.as_ref())?;
            let place = (new.tenant, new.name.clone());
            let (row, created) = new.onto(tables.schedules.get(&place).cloned(), now)?;
            tables.schedules.insert(place, (row.clone(), false));
            tables.remember(new.tenant, new.remember, now);
            Ok((row, created))
        })
    }

    async fn get_schedule(&self, tenant: TenantId, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        self.read(|tables, _| {
            let found =
                tables.schedules.get(&(tenant, name.to_owned())).filter(|(_, is_deleted)| !is_deleted);
            Ok(found.map(|(row, _)| row.clone()))
        })
    }

    async fn list_schedules(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read(|tables, _| {
            let ours =
                tables.schedules.values().filter(|(row, is_deleted)| row.tenant == tenant && !is_deleted);
            let page = ours.filter(|(row, _)| after.is_none_or(|after| row.name.as_str() > after));
            Ok(page.map(|(row, _)| row.clone()).take(limit as usize).collect())
        })
    }

    async fn delete_schedule(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        self.write(|tables, now| {
            let found = tables.schedules.get_mut(&(tenant, name.to_owned()));
            let Some((row, is_deleted)) = found.filter(|(_, is_deleted)| !*is_deleted) else {
                return Ok(false);
            };
            if revision.is_some_and(|revision| revision != row.revision) {
                return Err(WriteError::Moved);
            }
            *is_deleted = true;
            row.revision += 1;
            row.updated_at = now;
            Ok(true)
        })
    }

    async fn find_due_schedules(&self, limit: u32) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read(|tables, now| {
            let mut due: Vec<_> = tables.due_schedules(now).cloned().collect();
            due.sort_by_key(|row| row.next_at);
            due.truncate(limit as usize);
            Ok(due)
        })
    }

    async fn fire_schedule(&self, firing: Firing) -> Result<(), WriteError> {
        self.write(|tables, _| {
            tables.may_fire(&firing)?;
            tables.fire(&firing, None);
            Ok(())
        })
    }
}

impl Tables {
    /// Those whose time has come.
    pub(super) fn due_schedules(&self, now: Timestamp) -> impl Iterator<Item = &ScheduleRow> {
        let waiting = self.schedules.values().filter(|(_, is_deleted)| !is_deleted).map(|(row, _)| row);
        waiting.filter(move |row| row.next_at.is_some_and(|next_at| next_at <= now))
    }

    /// Whether the schedule still waits for this very time.
    pub(super) fn may_fire(&self, firing: &Firing) -> Result<(), WriteError> {
        let found = self.schedules.get(&(firing.tenant, firing.name.clone()));
        let waits = found.is_some_and(|(row, is_deleted)| {
            !is_deleted && row.revision == firing.revision && row.next_at == Some(firing.at)
                || planted("a_time_comes_twice")
        });
        if waits { Ok(()) } else { Err(WriteError::Moved) }
    }

    pub(super) fn fire(&mut self, firing: &Firing, run_id: Option<RunId>) {
        if let Some((row, _)) = self.schedules.get_mut(&(firing.tenant, firing.name.clone())) {
            row.next_at = firing.next_at;
            row.last_at = Some(firing.at);
            row.last_problem = firing.problem.clone();
            row.last_run_id = run_id.or(row.last_run_id);
        }
    }
}
