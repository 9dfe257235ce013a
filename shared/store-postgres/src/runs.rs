//! Runs: created, written, claimed, read.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::PgInterval;
use windlass_model::state::SNAPSHOT_FORMAT;
use windlass_model::{Event, EventSeq, RunId, RunStatus, SessionId, TenantId, Timestamp};
use windlass_store::stored::StoredEvent;
use windlass_store::{
    ApprovalCursor, ApprovalFilter, ApprovalRow, Due, DueRun, EndedChild, FREED_GROUPS_MAX, Fence, NewRun,
    RunCounts, RunFilter, RunRecord, RunRow, RunWrite, Runs, StoreError, WriteError,
};

use crate::claim_run::{self, Claim};
use crate::create_run::Create;
use crate::fault::{Fault, InDoubt};
use crate::types::{At, duration, int4, span};
use crate::write_run::Append;
use crate::{PostgresStore, list_runs, query, rows};

/// Between two looks at a claim whose answer was lost.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
/// So many looks must agree that it was not granted.
const SETTLE_LOOKS: u32 = 3;
/// A server that is away for longer has let every session end, and with it the claim.
const SETTLE_MAX: Duration = Duration::from_secs(60);

#[async_trait]
impl Runs for PostgresStore {
    async fn create_run(&self, run: NewRun) -> Result<(), WriteError> {
        self.creates.run(Create::new(run)?).await
    }

    async fn write_run(&self, write: RunWrite) -> Result<(), WriteError> {
        self.writes.run(Append::new(write)?).await
    }

    async fn claim_run(
        &self,
        run_id: RunId,
        session: SessionId,
        stale_after: Duration,
    ) -> Result<Option<RunRecord>, StoreError> {
        let claimed = self.claims.run(Claim { run_id, session, stale_after }).await;
        match claimed.map_err(|error| Fault::Write(error).into_store()) {
            Err(StoreError::Unavailable(problem)) if problem.is::<InDoubt>() => {
                self.settle_claim(run_id, session).await
            }
            claimed => claimed,
        }
    }

    async fn touch_run(&self, run_id: RunId, fence: Fence) -> Result<bool, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let touched = sqlx::query(query!("touch_run"))
                        .bind(run_id.0)
                        .bind(fence.session.0)
                        .bind(int4(fence.epoch.0))
                        .execute(db)
                        .await?;
                    Ok(touched.rows_affected() == 1)
                })
            })
            .await
    }

    async fn get_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("get_run")).bind(run_id.0).bind(tenant.0);
                    query.fetch_optional(db).await?.as_ref().map(rows::run).transpose()
                })
            })
            .await
    }

    async fn load_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("load_run")).bind(run_id.0).bind(tenant.0);
                    let found = query.bind(int4(SNAPSHOT_FORMAT)).fetch_optional(&mut *db).await?;
                    match found {
                        Some(row) => claim_run::record(db, &row, None).await.map(Some),
                        None => Ok(None),
                    }
                })
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
        self.searches
            .find(move |db| {
                Box::pin(async move { list_runs::list(db, tenant, &filter, before, limit).await })
            })
            .await
    }

    async fn read_events(
        &self,
        tenant: TenantId,
        run_id: RunId,
        after: EventSeq,
        limit: u32,
    ) -> Result<Option<Vec<Event>>, StoreError> {
        self.lookups.ask(move |db| Box::pin(events(db, tenant, run_id, after, limit))).await
    }

    async fn list_approvals(
        &self,
        tenant: TenantId,
        filter: &ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: u32,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let filter = filter.clone();
        self.searches
            .ask(move |db| Box::pin(async move { approvals(db, tenant, &filter, after, limit).await }))
            .await
    }

    async fn find_due(
        &self,
        session: SessionId,
        horizon: Duration,
        stale_after: Duration,
        limit: u32,
    ) -> Result<Due, StoreError> {
        self.sweeps
            .ask(move |db| {
                Box::pin(async move {
                    let any = sqlx::query(query!("find_due.any")).bind(span(horizon)).bind(span(stale_after));
                    if !any.bind(session.0).fetch_one(&mut *db).await?.try_get::<bool, _>(0)? {
                        return Ok(Due::default());
                    }
                    let query = sqlx::query(query!("find_due")).bind(span(horizon)).bind(span(stale_after));
                    let query = query.bind(i64::from(limit)).bind(session.0);
                    let query = query.bind(i64::from(FREED_GROUPS_MAX));
                    let mut due = Due::default();
                    for row in query.fetch_all(db).await? {
                        match row.try_get("what")? {
                            "run" => due.runs.push(DueRun {
                                ring: rows::ring(&row)?,
                                after: duration(&row.try_get::<PgInterval, _>("after")?),
                            }),
                            "moved" => due.moved.push(rows::ring(&row)?),
                            "group" => {
                                due.groups.push((TenantId(row.try_get("tenant")?), row.try_get("name")?))
                            }
                            _ => due.has_schedules = true,
                        }
                    }
                    Ok(due)
                })
            })
            .await
    }

    async fn find_ended_children(
        &self,
        tenant: TenantId,
        parent: RunId,
        limit: u32,
    ) -> Result<Vec<EndedChild>, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("find_ended_children")).bind(parent.0).bind(tenant.0);
                    let found = query.bind(i64::from(limit)).fetch_all(db).await?;
                    rows::all(&found, |row| {
                        let last = rows::event(row)?.read()?;
                        Ok(EndedChild::read(RunId(row.try_get("run_id")?), last)?)
                    })
                })
            })
            .await
    }

    async fn count_runs(&self) -> Result<RunCounts, StoreError> {
        self.searches.ask(|db| Box::pin(count(db))).await
    }

    async fn count_open_runs(&self, tenant: TenantId, limit: u32) -> Result<u64, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("count_open_runs")).bind(tenant.0).bind(i64::from(limit));
                    Ok(query.fetch_one(db).await?.try_get::<i64, _>(0)?.unsigned_abs())
                })
            })
            .await
    }
}

impl PostgresStore {
    /// Finds out what became of a claim whose answer was lost. If it was granted and nobody knew, the run would
    /// stand still for as long as its session lives.
    async fn settle_claim(&self, run_id: RunId, session: SessionId) -> Result<Option<RunRecord>, StoreError> {
        let began = Instant::now();
        let mut looks = 0;
        loop {
            tokio::time::sleep(SETTLE_PAUSE).await;
            let found = self.lookups.ask(move |db| Box::pin(held_untouched(db, run_id, session))).await;
            match found {
                // The server may still be busy with what it was sent.
                Ok(None) if looks < SETTLE_LOOKS => looks += 1,
                Err(StoreError::Unavailable(_)) if began.elapsed() < SETTLE_MAX => {}
                found => return found,
            }
        }
    }
}

async fn held_untouched(
    db: &mut PgConnection,
    run_id: RunId,
    session: SessionId,
) -> Result<Option<RunRecord>, Fault> {
    let query = sqlx::query(query!("claim_run.settle")).bind(run_id.0).bind(session.0);
    match query.bind(int4(SNAPSHOT_FORMAT)).fetch_optional(&mut *db).await? {
        Some(row) => claim_run::record(db, &row, None).await.map(Some),
        None => Ok(None),
    }
}

async fn events(
    db: &mut PgConnection,
    tenant: TenantId,
    run_id: RunId,
    after: EventSeq,
    limit: u32,
) -> Result<Option<Vec<Event>>, Fault> {
    let exists = sqlx::query(query!("read_events.exists")).bind(run_id.0).bind(tenant.0);
    if exists.fetch_optional(&mut *db).await?.is_none() {
        return Ok(None);
    }
    let query = sqlx::query(query!("read_events")).bind(run_id.0).bind(int4(after.0));
    let found = query.bind(i64::from(limit)).fetch_all(db).await?;
    let stored = rows::all(&found, rows::event)?;
    Ok(Some(stored.into_iter().map(StoredEvent::read).collect::<Result<_, _>>()?))
}

async fn approvals(
    db: &mut PgConnection,
    tenant: TenantId,
    filter: &ApprovalFilter,
    after: Option<ApprovalCursor>,
    limit: u32,
) -> Result<Vec<ApprovalRow>, Fault> {
    let after = after.unwrap_or(ApprovalCursor {
        requested_at: Timestamp(i64::MIN),
        run_id: RunId(uuid::Uuid::nil()),
        seq: EventSeq(0),
    });
    let query = match filter {
        ApprovalFilter { run_id: None, decided: Some(false) } => {
            sqlx::query(query!("list_approvals.open")).bind(tenant.0)
        }
        ApprovalFilter { run_id: None, decided } => {
            sqlx::query(query!("list_approvals")).bind(tenant.0).bind(decided)
        }
        ApprovalFilter { run_id: Some(_), decided } => {
            sqlx::query(query!("list_approvals.run")).bind(tenant.0).bind(decided)
        }
    };
    let query = query.bind(At(after.requested_at)).bind(after.run_id.0).bind(int4(after.seq.0));
    let query = match filter.run_id {
        Some(run_id) => query.bind(run_id.0),
        None => query,
    };
    rows::all(&query.bind(i64::from(limit)).fetch_all(db).await?, rows::approval)
}

async fn count(db: &mut PgConnection) -> Result<RunCounts, Fault> {
    let mut counts = RunCounts::default();
    for row in sqlx::query(query!("count_runs")).fetch_all(&mut *db).await? {
        let status: &str = row.try_get(0)?;
        let status = RunStatus::parse(status)
            .ok_or_else(|| Fault::damaged(format!("`{status}` is no status of a run")))?;
        counts.by_status.insert(status, row.try_get::<i64, _>(1)?.unsigned_abs());
    }
    let row = sqlx::query(query!("count_runs.oldest")).fetch_one(db).await?;
    counts.oldest_claimable = row.try_get::<Option<PgInterval>, _>(0)?.as_ref().map(duration);
    Ok(counts)
}
