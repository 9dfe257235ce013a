//! Schedules.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use windlass_model::{RunId, TenantId};
use windlass_store::{Firing, NewSchedule, ScheduleRow, Schedules, StoreError, WriteError};

use crate::fault::Fault;
use crate::types::{At, int4};
use crate::{PostgresStore, query, replies, rows};

#[async_trait]
impl Schedules for PostgresStore {
    async fn put_schedule(&self, new: NewSchedule) -> Result<(ScheduleRow, bool), WriteError> {
        self.lookups.run_whole(move |db| Box::pin(async move { put(db, &new).await })).await
    }

    async fn get_schedule(&self, tenant: TenantId, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        let name = name.to_owned();
        self.lookups
            .find(move |db| Box::pin(async move { Ok(visible(find(db, tenant, &name).await?)) }))
            .await
    }

    async fn list_schedules(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.searches
            .find(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("list_schedules")).bind(tenant.0).bind(after);
                    rows::all(&query.bind(i64::from(limit)).fetch_all(db).await?, rows::schedule)
                })
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
        self.lookups
            .run(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("delete_schedule")).bind(tenant.0).bind(&name);
                    let deleted = query.bind(revision.map(int4)).execute(&mut *db).await?.rows_affected();
                    match deleted {
                        0 if visible(find(db, tenant, &name).await?).is_some() => {
                            Err(WriteError::Moved.into())
                        }
                        deleted => Ok(deleted > 0),
                    }
                })
            })
            .await
    }

    async fn find_due_schedules(&self, limit: u32) -> Result<Vec<ScheduleRow>, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("find_due_schedules")).bind(i64::from(limit));
                    rows::all(&query.fetch_all(db).await?, rows::schedule)
                })
            })
            .await
    }

    async fn fire_schedule(&self, firing: Firing) -> Result<(), WriteError> {
        self.lookups
            .run(move |db| {
                Box::pin(async move {
                    let fired = fire(db, &firing, None).await?;
                    if fired { Ok(()) } else { Err(WriteError::Moved.into()) }
                })
            })
            .await
    }
}

/// A time of a schedule has come, and this run starts for it. False when the schedule does not wait for it any more.
pub(crate) async fn fire(
    db: &mut PgConnection,
    firing: &Firing,
    run_id: Option<RunId>,
) -> Result<bool, Fault> {
    let fired = sqlx::query(query!("fire_schedule"))
        .bind(firing.tenant.0)
        .bind(&firing.name)
        .bind(int4(firing.revision))
        .bind(At(firing.at))
        .bind(firing.next_at.map(At))
        .bind(&firing.problem)
        .bind(run_id.map(|run_id| run_id.0))
        .execute(db)
        .await?;
    Ok(fired.rows_affected() == 1)
}

fn visible(found: Option<(ScheduleRow, bool)>) -> Option<ScheduleRow> {
    found.filter(|(_, is_deleted)| !is_deleted).map(|(row, _)| row)
}

async fn find(
    db: &mut PgConnection,
    tenant: TenantId,
    name: &str,
) -> Result<Option<(ScheduleRow, bool)>, Fault> {
    let query = sqlx::query(query!("get_schedule")).bind(tenant.0).bind(name);
    let read = |row: &_| -> Result<_, Fault> { Ok((rows::schedule(row)?, row.try_get("is_deleted")?)) };
    query.fetch_optional(db).await?.as_ref().map(read).transpose()
}

async fn put(db: &mut PgConnection, new: &NewSchedule) -> Result<(ScheduleRow, bool), Fault> {
    if let Some(remember) = &new.remember {
        let free = replies::remember(db, &[(new.tenant, remember)]).await?;
        if free.is_empty() {
            return Err(WriteError::KeyTaken.into());
        }
    }
    // A name that is not there yet has no row to lock; one that is, a firing may be about to change.
    let lock = sqlx::query(query!("put_workflow.lock")).bind(&new.name).bind(i64::from(new.tenant.0));
    lock.execute(&mut *db).await?;
    sqlx::query(query!("put_schedule.lock")).bind(new.tenant.0).bind(&new.name).execute(&mut *db).await?;
    let now = sqlx::query(query!("now")).fetch_one(&mut *db).await?.try_get::<At, _>(0)?.into();
    let (row, created) = new.onto(find(db, new.tenant, &new.name).await?, now)?;
    sqlx::query(query!("put_schedule"))
        .bind(row.tenant.0)
        .bind(&row.name)
        .bind(int4(row.revision))
        .bind(&row.spec)
        .bind(row.is_paused)
        .bind(row.next_at.map(At))
        .bind(At(row.created_at))
        .bind(At(row.updated_at))
        .execute(db)
        .await?;
    Ok((row, created))
}
