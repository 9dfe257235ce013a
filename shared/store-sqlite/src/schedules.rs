//! Schedules.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::{RunId, TenantId, Timestamp};
use windlass_store::{Firing, NewSchedule, ScheduleRow, Schedules, StoreError, WriteError};

use crate::fault::Fault;
use crate::rows::{self, Id};
use crate::{SqliteStore, query, replies};

#[async_trait]
impl Schedules for SqliteStore {
    async fn put_schedule(&self, new: NewSchedule) -> Result<(ScheduleRow, bool), WriteError> {
        self.write(move |db, now| put(db, &new, now)).await
    }

    async fn get_schedule(&self, tenant: TenantId, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        let name = name.to_owned();
        self.read(move |db, _| Ok(visible(find(db, tenant, &name)?))).await
    }

    async fn list_schedules(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("list_schedules"))?;
            let parameters = named_params! { ":tenant": tenant.0, ":after": after, ":limit": limit };
            Ok(statement.query_map(parameters, rows::schedule)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn delete_schedule(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        let name = name.to_owned();
        self.write(move |db, now| {
            let deleted = db.prepare_cached(query!("delete_schedule"))?.execute(named_params! {
                ":tenant": tenant.0,
                ":name": name,
                ":revision": revision,
                ":now": now.0,
            })?;
            match deleted {
                0 if visible(find(db, tenant, &name)?).is_some() => Err(WriteError::Moved.into()),
                deleted => Ok(deleted > 0),
            }
        })
        .await
    }

    async fn find_due_schedules(&self, limit: u32) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read(move |db, now| {
            let mut statement = db.prepare_cached(query!("find_due_schedules"))?;
            let parameters = named_params! { ":now": now.0, ":limit": limit };
            Ok(statement.query_map(parameters, rows::schedule)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn fire_schedule(&self, firing: Firing) -> Result<(), WriteError> {
        self.write(move |db, _| fire(db, &firing, None)).await
    }
}

/// A time of a schedule has come, and this run starts for it.
pub(crate) fn fire(db: &Connection, firing: &Firing, run_id: Option<RunId>) -> Result<(), Fault> {
    let fired = db.prepare_cached(query!("fire_schedule"))?.execute(named_params! {
        ":tenant": firing.tenant.0,
        ":name": firing.name,
        ":revision": firing.revision,
        ":at": firing.at.0,
        ":next_at": firing.next_at.map(|at| at.0),
        ":problem": firing.problem,
        ":run_id": run_id.map(Id::from),
    })?;
    if fired == 1 { Ok(()) } else { Err(WriteError::Moved.into()) }
}

fn visible(found: Option<(ScheduleRow, bool)>) -> Option<ScheduleRow> {
    found.filter(|(_, is_deleted)| !is_deleted).map(|(row, _)| row)
}

fn find(db: &Connection, tenant: TenantId, name: &str) -> Result<Option<(ScheduleRow, bool)>, Fault> {
    let mut statement = db.prepare_cached(query!("get_schedule"))?;
    let parameters = named_params! { ":tenant": tenant.0, ":name": name };
    let read = |row: &rusqlite::Row<'_>| Ok((rows::schedule(row)?, row.get("is_deleted")?));
    Ok(statement.query_row(parameters, read).optional()?)
}

fn put(db: &Connection, new: &NewSchedule, now: Timestamp) -> Result<(ScheduleRow, bool), Fault> {
    replies::remember(db, new.tenant, new.remember.as_ref(), now)?;
    let (row, created) = new.onto(find(db, new.tenant, &new.name)?, now)?;
    db.prepare_cached(query!("put_schedule"))?.execute(named_params! {
        ":tenant": row.tenant.0,
        ":name": row.name,
        ":revision": row.revision,
        ":spec": row.spec,
        ":is_paused": row.is_paused,
        ":next_at": row.next_at.map(|at| at.0),
        ":created_at": row.created_at.0,
        ":updated_at": row.updated_at.0,
    })?;
    Ok((row, created))
}
