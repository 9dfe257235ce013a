//! Rows read into the values of the port.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row, Type};
use windlass_model::circuit::{Circuit, CircuitKey, CircuitState, Guarded};
use windlass_model::concurrency::{Group, Member, OnConflict};
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, OnLimit, RateLimit};
use windlass_model::{
    Attempt, Digest, Epoch, EventSeq, NodeIndex, PauseReason, Priority, Ring, RunId, RunState, RunStatus,
    RunVersion, SessionId, TenantId, Timestamp, VersionId,
};
use windlass_store::stored::{StoredEvent, StoredSnapshot};
use windlass_store::{
    ApprovalDecision, ApprovalRow, CalleeRow, Labels, RunRow, ScheduleRow, VersionRow, WorkflowRow,
};

use crate::fault::Fault;
use crate::types::At;

/// What a row says for "no item": nulls are all different in a unique index.
pub(crate) const NO_ITEM: i32 = -1;

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, column: &str) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

fn number<T: TryFrom<i32>>(number: i32, what: &str) -> Result<T, Fault> {
    T::try_from(number).map_err(|_| Fault::damaged(format!("{number} is no {what}")))
}

fn counter(row: &PgRow, column: &str) -> Result<u32, Fault> {
    number(get(row, column)?, column)
}

fn optional_counter(row: &PgRow, column: &str) -> Result<Option<u32>, Fault> {
    get::<Option<i32>>(row, column)?.map(|value| number(value, column)).transpose()
}

fn time(row: &PgRow, column: &str) -> Result<Timestamp, Fault> {
    get::<At>(row, column).map(Timestamp::from)
}

fn optional_time(row: &PgRow, column: &str) -> Result<Option<Timestamp>, Fault> {
    Ok(get::<Option<At>>(row, column)?.map(Timestamp::from))
}

fn word<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
    parse(text).ok_or_else(|| Fault::damaged(format!("`{text}` is no known word")))
}

/// Columns `id, tenant, priority`.
pub(crate) fn ring(row: &PgRow) -> Result<Ring, Fault> {
    Ok(Ring {
        run_id: RunId(row.try_get(0)?),
        tenant: TenantId(row.try_get(1)?),
        priority: Priority::from_rank(row.try_get(2)?),
    })
}

/// Columns as in the view `run_rows`.
pub(crate) fn run(row: &PgRow) -> Result<RunRow, Fault> {
    let id = RunId(get(row, "id")?);
    Ok(RunRow {
        id,
        tenant: TenantId(get(row, "tenant")?),
        version_id: VersionId(get(row, "version_id")?),
        workflow: get::<Option<String>>(row, "workflow")?
            .ok_or_else(|| Fault::damaged(format!("the definition of run {id} is not there")))?,
        workflow_version: optional_counter(row, "workflow_version")?,
        status: word(get(row, "status")?, RunStatus::parse)?,
        paused_reason: get::<Option<&str>>(row, "paused_reason")?
            .map(|text| word(text, PauseReason::parse))
            .transpose()?,
        version: RunVersion(counter(row, "version")?),
        next_seq: EventSeq(counter(row, "next_seq")?),
        wake_at: optional_time(row, "wake_at")?,
        last_activity_at: time(row, "last_activity_at")?,
        lease_owner: get::<Option<_>>(row, "lease_owner")?.map(SessionId),
        epoch: Epoch(counter(row, "epoch")?),
        parent: get::<Option<_>>(row, "parent_id")?.map(RunId),
        priority: Priority::from_rank(get(row, "priority")?),
        labels: labels(get(row, "labels")?)?,
        created_at: time(row, "created_at")?,
        started_at: optional_time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
        error: get(row, "error")?,
    })
}

fn labels(text: Option<&str>) -> Result<Labels, Fault> {
    match text {
        None => Ok(Labels::new()),
        Some(text) => serde_json::from_str(text).map_err(|error| Fault::damaged(format!("labels: {error}"))),
    }
}

/// The columns `snapshot_…`; none when there is no fold or it cannot be read: the log tells the same.
pub(crate) fn snapshot(row: &PgRow) -> Result<Option<RunState>, Fault> {
    let Some(seq) = optional_counter(row, "snapshot_seq")? else { return Ok(None) };
    let stored = StoredSnapshot {
        seq: EventSeq(seq),
        format: counter(row, "snapshot_format")?,
        state: get(row, "snapshot_state")?,
    };
    Ok(stored.read())
}

/// One column of an event, for all events of a run.
fn column<T>(row: &PgRow, name: &str) -> Result<Vec<T>, Fault>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + sqlx::postgres::PgHasArrayType,
{
    Ok(get::<Option<Vec<T>>>(row, name)?.unwrap_or_default())
}

/// The columns `seqs`, `ats`, … that a statement aggregated.
pub(crate) fn history(row: &PgRow) -> Result<Vec<StoredEvent>, Fault> {
    let seqs = column::<i32>(row, "seqs")?;
    let ats = column::<At>(row, "ats")?;
    let codes = column::<i16>(row, "codes")?;
    let nodes = column::<Option<i16>>(row, "nodes")?;
    let items = column::<i32>(row, "items")?;
    let attempts = column::<Option<i16>>(row, "attempts")?;
    let epochs = column::<Option<i32>>(row, "epochs")?;
    let actors = column::<Option<String>>(row, "actors")?;
    let datas = column::<String>(row, "datas")?;
    let texts = actors.into_iter().zip(datas);
    let events = texts.enumerate().map(|(at, (actor, data))| {
        Ok(StoredEvent {
            seq: EventSeq(number(seqs[at], "seq")?),
            at: ats[at].into(),
            code: codes[at],
            node: node(nodes[at]),
            item: item(items[at]),
            attempt: attempt(attempts[at]),
            epoch: epochs[at].map(|epoch| number(epoch, "epoch")).transpose()?.map(Epoch),
            actor,
            data,
        })
    });
    events.collect()
}

// PostgreSQL has no unsigned numbers, but bytes are bytes: what is above their half shows as negative there.

fn item(index: i32) -> Option<u32> {
    (index != NO_ITEM).then(|| index.cast_unsigned())
}

fn node(index: Option<i16>) -> Option<NodeIndex> {
    index.map(|index| NodeIndex(index.cast_unsigned()))
}

fn attempt(attempt: Option<i16>) -> Option<Attempt> {
    attempt.map(i16::cast_unsigned)
}

/// Columns as in `read_events.sql`.
pub(crate) fn event(row: &PgRow) -> Result<StoredEvent, Fault> {
    Ok(StoredEvent {
        seq: EventSeq(counter(row, "seq")?),
        at: time(row, "at")?,
        code: get(row, "code")?,
        node: node(get(row, "node")?),
        item: item(get(row, "item")?),
        attempt: attempt(get(row, "attempt")?),
        epoch: optional_counter(row, "epoch")?.map(Epoch),
        actor: get(row, "actor")?,
        data: get(row, "data")?,
    })
}

/// Columns as in `list_approvals.sql`.
pub(crate) fn approval(row: &PgRow) -> Result<ApprovalRow, Fault> {
    Ok(ApprovalRow {
        run_id: RunId(get(row, "run_id")?),
        workflow: get::<Option<_>>(row, "workflow")?.unwrap_or_default(),
        node: get(row, "node")?,
        attempt: number(get(row, "attempt")?, "attempt")?,
        seq: EventSeq(counter(row, "seq")?),
        requested_at: time(row, "requested_at")?,
        expires_at: optional_time(row, "expires_at")?,
        decided_at: optional_time(row, "decided_at")?,
        decision: get::<Option<&str>>(row, "decision")?
            .map(|text| word(text, ApprovalDecision::parse))
            .transpose()?,
        decided_by: get(row, "decided_by")?,
    })
}

/// Columns as in `get_workflow.sql`.
pub(crate) fn workflow(row: &PgRow) -> Result<WorkflowRow, Fault> {
    Ok(WorkflowRow {
        name: get(row, "name")?,
        revision: counter(row, "revision")?,
        latest_version: counter(row, "latest_version")?,
        hash: Digest(get(row, "content_hash")?),
        tags: get(row, "tags")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// Columns as in `list_callees.sql`.
pub(crate) fn callee(row: &PgRow) -> Result<CalleeRow, Fault> {
    Ok(CalleeRow {
        name: get(row, "name")?,
        revision: counter(row, "revision")?,
        hash: Digest(get(row, "content_hash")?),
        risk: get(row, "risk")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// Columns as in `list_circuits.sql`.
pub(crate) fn circuit(row: &PgRow, tenant: TenantId) -> Result<(CircuitKey, Circuit), Fault> {
    let kind = word(get(row, "kind")?, Guarded::parse)?;
    let circuit = Circuit {
        state: word(get(row, "state")?, CircuitState::parse)?,
        failures: counter(row, "failures")?,
        window_ends_at: time(row, "window_ends_at")?,
        probe_at: optional_time(row, "probe_at")?,
        since: time(row, "since")?,
    };
    Ok((CircuitKey { tenant, kind, name: get(row, "name")? }, circuit))
}

/// Columns as in `list_rate_limits.sql`.
pub(crate) fn rate_limit(row: &PgRow, tenant: TenantId) -> Result<(LimitKey, LimitState), Fault> {
    let on_limit = if get(row, "rejects")? { OnLimit::Reject } else { OnLimit::Wait };
    let per = Duration::from_millis(get::<i64>(row, "per_ms")?.unsigned_abs());
    let limit = RateLimit { turns: counter(row, "turns")?, per, burst: counter(row, "burst")?, on_limit };
    let kind = word(get(row, "kind")?, Limited::parse)?;
    let key = LimitKey { tenant, kind, name: get(row, "name")? };
    Ok((key, LimitState { taken_until: time(row, "taken_until")?, limit }))
}

pub(crate) fn schedule(row: &PgRow) -> Result<ScheduleRow, Fault> {
    Ok(ScheduleRow {
        tenant: TenantId(get(row, "tenant")?),
        name: get(row, "name")?,
        revision: counter(row, "revision")?,
        spec: get(row, "spec")?,
        is_paused: get(row, "is_paused")?,
        next_at: optional_time(row, "next_at")?,
        last_at: optional_time(row, "last_at")?,
        last_run_id: get::<Option<uuid::Uuid>>(row, "last_run_id")?.map(RunId),
        last_problem: get(row, "last_problem")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) fn member(row: &PgRow) -> Result<Member, Fault> {
    let group = Group {
        name: get(row, "name")?,
        max: counter(row, "places")?,
        on_conflict: word(get(row, "on_conflict")?, OnConflict::parse)?,
    };
    Ok(Member {
        run_id: RunId(get(row, "run_id")?),
        priority: Priority::from_rank(get(row, "priority")?),
        group,
        has_place: get(row, "has_place")?,
    })
}

/// Columns as in `get_definition.sql`.
pub(crate) fn version(row: &PgRow) -> Result<VersionRow, Fault> {
    Ok(VersionRow {
        id: VersionId(get(row, "id")?),
        name: get(row, "name")?,
        version: optional_counter(row, "version")?,
        hash: Digest(get(row, "content_hash")?),
        spec: get(row, "spec")?,
        created_at: time(row, "created_at")?,
    })
}

/// All rows, each read by `read`.
pub(crate) fn all<T>(rows: &[PgRow], read: impl Fn(&PgRow) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    rows.iter().map(read).collect()
}
