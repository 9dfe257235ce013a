//! Runs: created, written, claimed, read.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::{Event, EventSeq, RunId, RunStatus, SessionId, TenantId, Timestamp};
use windlass_store::stored::StoredEvent;
use windlass_store::{
    ApprovalCursor, ApprovalFilter, ApprovalRow, Due, DueRun, EndedChild, FREED_GROUPS_MAX, Fence, NewRun,
    RunCounts, RunFilter, RunRecord, RunRow, RunWrite, Runs, StoreError, WriteError,
};

use crate::claim::{self, before};
use crate::fault::Fault;
use crate::rows::{self, Id};
use crate::write_run::Append;
use crate::{SqliteStore, create_run, list_runs, query};

#[async_trait]
impl Runs for SqliteStore {
    async fn create_run(&self, run: NewRun) -> Result<(), WriteError> {
        let event = StoredEvent::from(&run.event);
        self.write(move |db, now| create_run::create(db, &run, &event, now)).await
    }

    async fn write_run(&self, write: RunWrite) -> Result<(), WriteError> {
        let append = Append::from(write);
        self.write(move |db, now| append.run(db, now)).await
    }

    async fn claim_run(
        &self,
        run_id: RunId,
        session: SessionId,
        stale_after: Duration,
    ) -> Result<Option<RunRecord>, StoreError> {
        self.write_always(move |db, now| claim::claim(db, run_id, session, stale_after, now)).await
    }

    async fn touch_run(&self, run_id: RunId, fence: Fence) -> Result<bool, StoreError> {
        self.write_always(move |db, now| {
            let touched = db.prepare_cached(query!("touch_run"))?.execute(named_params! {
                ":run_id": Id::from(run_id),
                ":session": Id::from(fence.session),
                ":epoch": fence.epoch.0,
                ":now": now.0,
            })?;
            Ok(touched == 1)
        })
        .await
    }

    async fn get_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.read(move |db, _| row(db, tenant, run_id)).await
    }

    async fn load_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.read(move |db, _| {
            let moment = db.unchecked_transaction()?;
            let record = match row(&moment, tenant, run_id)? {
                Some(row) => Some(claim::record(&moment, row)?),
                None => None,
            };
            Ok(record)
        })
        .await
    }

    async fn list_runs(
        &self,
        tenant: TenantId,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        let filter = filter.clone();
        self.read(move |db, _| list_runs::list(db, tenant, &filter, before, limit)).await
    }

    async fn read_events(
        &self,
        tenant: TenantId,
        run_id: RunId,
        after: EventSeq,
        limit: u32,
    ) -> Result<Option<Vec<Event>>, StoreError> {
        self.read(move |db, _| {
            let exists = db
                .prepare_cached(query!("read_events.exists"))?
                .exists(named_params! { ":run_id": Id::from(run_id), ":tenant": tenant.0 })?;
            if !exists {
                return Ok(None);
            }
            let mut statement = db.prepare_cached(query!("read_events"))?;
            let mut found = statement
                .query(named_params! { ":run_id": Id::from(run_id), ":after": after.0, ":limit": limit })?;
            let mut events = Vec::new();
            while let Some(row) = found.next()? {
                events.push(rows::event(row)?.read()?);
            }
            Ok(Some(events))
        })
        .await
    }

    async fn list_approvals(
        &self,
        tenant: TenantId,
        filter: &ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: u32,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let filter = filter.clone();
        self.read(move |db, _| approvals(db, tenant, &filter, after, limit)).await
    }

    async fn find_due(
        &self,
        session: SessionId,
        horizon: Duration,
        stale_after: Duration,
        limit: u32,
    ) -> Result<Due, StoreError> {
        self.read(move |db, now| {
            let (horizon, stale_before) = (now.plus(horizon).0, before(now, stale_after));
            let session = Id::from(session);
            let mut due = Due::default();
            let any = named_params! {
                ":now": now.0,
                ":horizon": horizon,
                ":stale_before": stale_before,
                ":session": session,
            };
            if !db.prepare_cached(query!("find_due.any"))?.query_row(any, |row| row.get(0))? {
                return Ok(due);
            }
            let mut statement = db.prepare_cached(query!("find_due"))?;
            let mut found = statement.query(named_params! {
                ":now": now.0,
                ":horizon": horizon,
                ":stale_before": stale_before,
                ":limit": limit,
                ":session": session,
                ":groups_limit": FREED_GROUPS_MAX,
            })?;
            while let Some(row) = found.next()? {
                match row.get::<_, String>("what")?.as_str() {
                    "run" => due.runs.push(DueRun {
                        ring: rows::ring(row)?,
                        after: Timestamp(0).until(Timestamp(row.get("after")?)),
                    }),
                    "moved" => due.moved.push(rows::ring(row)?),
                    "group" => due.groups.push((TenantId(row.get("tenant")?), row.get("name")?)),
                    _ => due.has_schedules = true,
                }
            }
            Ok(due)
        })
        .await
    }

    async fn find_ended_children(
        &self,
        tenant: TenantId,
        parent: RunId,
        limit: u32,
    ) -> Result<Vec<EndedChild>, StoreError> {
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("find_ended_children"))?;
            let mut found = statement
                .query(named_params! { ":parent": Id::from(parent), ":tenant": tenant.0, ":limit": limit })?;
            let mut children = Vec::new();
            while let Some(row) = found.next()? {
                let last = rows::event_from(row, 1)?.read()?;
                children.push(EndedChild::read(row.get::<_, Id>(0)?.into(), last)?);
            }
            Ok(children)
        })
        .await
    }

    async fn count_runs(&self) -> Result<RunCounts, StoreError> {
        self.read(count).await
    }

    async fn count_open_runs(&self, tenant: TenantId, limit: u32) -> Result<u64, StoreError> {
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("count_open_runs"))?;
            let parameters = named_params! { ":tenant": tenant.0, ":limit": limit };
            Ok(statement.query_row(parameters, |row| row.get::<_, i64>(0))?.unsigned_abs())
        })
        .await
    }
}

fn row(db: &Connection, tenant: TenantId, run_id: RunId) -> Result<Option<RunRow>, Fault> {
    let mut statement = db.prepare_cached(query!("get_run"))?;
    let parameters = named_params! { ":run_id": Id::from(run_id), ":tenant": tenant.0 };
    Ok(statement.query_row(parameters, rows::run).optional()?)
}

fn approvals(
    db: &Connection,
    tenant: TenantId,
    filter: &ApprovalFilter,
    after: Option<ApprovalCursor>,
    limit: u32,
) -> Result<Vec<ApprovalRow>, Fault> {
    let sql = match filter {
        ApprovalFilter { run_id: Some(_), .. } => query!("list_approvals.run"),
        ApprovalFilter { decided: Some(false), .. } => query!("list_approvals.open"),
        _ => query!("list_approvals"),
    };
    let after = after.unwrap_or(ApprovalCursor {
        requested_at: Timestamp(i64::MIN),
        run_id: RunId(uuid::Uuid::nil()),
        seq: EventSeq(0),
    });
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(
        named_params! {
            ":tenant": tenant.0,
            ":run_id": filter.run_id.map(Id::from),
            ":decided": filter.decided,
            ":after_at": after.requested_at.0,
            ":after_run": Id::from(after.run_id),
            ":after_seq": after.seq.0,
            ":limit": limit,
        },
        rows::approval,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn count(db: &Connection, now: Timestamp) -> Result<RunCounts, Fault> {
    let mut counts = RunCounts::default();
    let mut statement = db.prepare_cached(query!("count_runs"))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let status: String = row.get(0)?;
        let status = RunStatus::parse(&status)
            .ok_or_else(|| Fault::damaged(format!("`{status}` is no status of a run")))?;
        counts.by_status.insert(status, row.get::<_, i64>(1)?.unsigned_abs());
    }
    let mut statement = db.prepare_cached(query!("count_runs.oldest"))?;
    let since: Option<i64> = statement.query_row(named_params! { ":now": now.0 }, |row| row.get(0))?;
    counts.oldest_claimable = since.map(|since| Timestamp(since).until(now));
    Ok(counts)
}
