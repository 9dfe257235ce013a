//! Rows read into the values of the port.

use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Row, Statement};
use windlass_model::circuit::{Circuit, CircuitKey, CircuitState, Guarded};
use windlass_model::concurrency::{Group, Member, OnConflict};
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, OnLimit, RateLimit};
use windlass_model::{
    Digest, Epoch, EventSeq, NodeIndex, PauseReason, Priority, Ring, RunId, RunStatus, RunVersion, SessionId,
    TenantId, Timestamp, VersionId,
};
use windlass_store::stored::StoredEvent;
use windlass_store::{
    ApprovalDecision, ApprovalRow, CalleeRow, Labels, RunRow, ScheduleRow, VersionRow, WorkflowRow,
};

/// What a row says for "no item": nulls are all different in a unique index.
const NO_ITEM: i64 = -1;

/// The id of a run or a session: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) uuid::Uuid);

impl From<RunId> for Id {
    fn from(id: RunId) -> Self {
        Self(id.0)
    }
}

impl From<SessionId> for Id {
    fn from(id: SessionId) -> Self {
        Self(id.0)
    }
}

impl From<Id> for RunId {
    fn from(id: Id) -> Self {
        Self(id.0)
    }
}

impl From<Id> for SessionId {
    fn from(id: Id) -> Self {
        Self(id.0)
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_bytes())))
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let bytes = <[u8; 16]>::try_from(bytes)
            .map_err(|_| FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() })?;
        Ok(Self(uuid::Uuid::from_bytes(bytes)))
    }
}

/// Columns `id, tenant, priority`.
pub(crate) fn ring(row: &Row<'_>) -> rusqlite::Result<Ring> {
    Ok(Ring {
        run_id: row.get::<_, Id>(0)?.into(),
        tenant: TenantId(row.get(1)?),
        priority: Priority::from_rank(row.get(2)?),
    })
}

/// A word of a fixed vocabulary that is not in it, or text that is not the JSON it must be.
fn unreadable(column: usize, problem: impl Into<String>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, problem.into().into())
}

fn word<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text).ok_or_else(|| unreadable(column, format!("`{text}` is no known word")))
}

fn optional_word<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => word(row, column, parse).map(Some),
    }
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?)
        .map_err(|error| unreadable(column, error.to_string()))
}

fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp)
}

fn optional_timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

/// A row of the view `run_rows`.
pub(crate) fn run(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    const LABELS: usize = 19;
    Ok(RunRow {
        id: row.get::<_, Id>(0)?.into(),
        tenant: TenantId(row.get(1)?),
        version_id: VersionId(row.get(2)?),
        workflow: row.get(3)?,
        workflow_version: row.get(4)?,
        status: word(row, 5, RunStatus::parse)?,
        paused_reason: optional_word(row, 6, PauseReason::parse)?,
        version: RunVersion(row.get(7)?),
        next_seq: EventSeq(row.get(8)?),
        wake_at: optional_timestamp(row, 9)?,
        last_activity_at: timestamp(row, 10)?,
        lease_owner: row.get::<_, Option<Id>>(11)?.map(Into::into),
        epoch: Epoch(row.get(12)?),
        parent: row.get::<_, Option<Id>>(18)?.map(Into::into),
        priority: Priority::from_rank(row.get(13)?),
        created_at: timestamp(row, 14)?,
        started_at: optional_timestamp(row, 15)?,
        ended_at: optional_timestamp(row, 16)?,
        error: row.get(17)?,
        labels: match row.get_ref(LABELS)?.as_str()? {
            "{}" => Labels::new(),
            _ => json(row, LABELS)?,
        },
    })
}

/// Columns as in `load_run.events.sql`.
pub(crate) fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    event_from(row, 0)
}

/// As [`event`], for columns of which `first` is the first.
pub(crate) fn event_from(row: &Row<'_>, first: usize) -> rusqlite::Result<StoredEvent> {
    let item: i64 = row.get(first + 4)?;
    Ok(StoredEvent {
        seq: EventSeq(row.get(first)?),
        at: timestamp(row, first + 1)?,
        code: row.get(first + 2)?,
        node: row.get::<_, Option<u16>>(first + 3)?.map(NodeIndex),
        item: u32::try_from(item).ok(),
        attempt: row.get(first + 5)?,
        epoch: row.get::<_, Option<u32>>(first + 6)?.map(Epoch),
        actor: row.get(first + 7)?,
        data: row.get(first + 8)?,
    })
}

/// Appends an event; `statement` is `append_event.sql`.
pub(crate) fn append_event(
    statement: &mut Statement<'_>,
    run_id: Id,
    event: &StoredEvent,
) -> rusqlite::Result<usize> {
    statement.execute(rusqlite::params![
        run_id,
        event.seq.0,
        event.at.0,
        event.code,
        event.node.map(|node| node.0),
        event.item.map_or(NO_ITEM, i64::from),
        event.attempt,
        event.epoch.map(|epoch| epoch.0),
        event.actor,
        event.data,
    ])
}

/// Columns as in `list_approvals.sql`.
pub(crate) fn approval(row: &Row<'_>) -> rusqlite::Result<ApprovalRow> {
    Ok(ApprovalRow {
        run_id: row.get::<_, Id>(0)?.into(),
        workflow: row.get(1)?,
        node: row.get(2)?,
        attempt: row.get(3)?,
        seq: EventSeq(row.get(4)?),
        requested_at: timestamp(row, 5)?,
        expires_at: optional_timestamp(row, 6)?,
        decided_at: optional_timestamp(row, 7)?,
        decision: optional_word(row, 8, ApprovalDecision::parse)?,
        decided_by: row.get(9)?,
    })
}

/// Columns as in `get_workflow.sql`.
pub(crate) fn workflow(row: &Row<'_>) -> rusqlite::Result<WorkflowRow> {
    Ok(WorkflowRow {
        name: row.get(0)?,
        revision: row.get(1)?,
        latest_version: row.get(2)?,
        hash: Digest(row.get(3)?),
        tags: json(row, 4)?,
        created_at: timestamp(row, 5)?,
        updated_at: timestamp(row, 6)?,
    })
}

/// Columns as in `list_callees.sql`.
pub(crate) fn callee(row: &Row<'_>) -> rusqlite::Result<CalleeRow> {
    Ok(CalleeRow {
        name: row.get(0)?,
        revision: row.get(1)?,
        hash: Digest(row.get(2)?),
        risk: row.get(3)?,
        created_at: timestamp(row, 4)?,
        updated_at: timestamp(row, 5)?,
    })
}

/// Columns as in `list_circuits.sql`.
pub(crate) fn circuit(row: &Row<'_>, tenant: TenantId) -> rusqlite::Result<(CircuitKey, Circuit)> {
    let key = CircuitKey { tenant, kind: word(row, 0, Guarded::parse)?, name: row.get(1)? };
    let circuit = Circuit {
        state: word(row, 2, CircuitState::parse)?,
        failures: row.get(3)?,
        window_ends_at: timestamp(row, 4)?,
        probe_at: optional_timestamp(row, 5)?,
        since: timestamp(row, 6)?,
    };
    Ok((key, circuit))
}

/// Columns as in `list_rate_limits.sql`.
pub(crate) fn rate_limit(row: &Row<'_>, tenant: TenantId) -> rusqlite::Result<(LimitKey, LimitState)> {
    let key = LimitKey { tenant, kind: word(row, 0, Limited::parse)?, name: row.get(1)? };
    let on_limit = if row.get(6)? { OnLimit::Reject } else { OnLimit::Wait };
    let per = Duration::from_millis(row.get::<_, i64>(4)?.unsigned_abs());
    let limit = RateLimit { turns: row.get(3)?, per, burst: row.get(5)?, on_limit };
    Ok((key, LimitState { taken_until: timestamp(row, 2)?, limit }))
}

/// Columns as in `list_schedules.sql`.
pub(crate) fn schedule(row: &Row<'_>) -> rusqlite::Result<ScheduleRow> {
    Ok(ScheduleRow {
        tenant: TenantId(row.get(0)?),
        name: row.get(1)?,
        revision: row.get(2)?,
        spec: row.get(3)?,
        is_paused: row.get(4)?,
        next_at: optional_timestamp(row, 5)?,
        last_at: optional_timestamp(row, 6)?,
        last_run_id: row.get::<_, Option<Id>>(7)?.map(Into::into),
        last_problem: row.get(8)?,
        created_at: timestamp(row, 9)?,
        updated_at: timestamp(row, 10)?,
    })
}

/// Columns as in `list_group.sql`.
pub(crate) fn member(row: &Row<'_>) -> rusqlite::Result<Member> {
    let group = Group { name: row.get(2)?, max: row.get(3)?, on_conflict: word(row, 4, OnConflict::parse)? };
    Ok(Member {
        run_id: row.get::<_, Id>(0)?.into(),
        priority: Priority::from_rank(row.get(1)?),
        group,
        has_place: row.get(5)?,
    })
}

/// Columns as in `get_definition.sql`.
pub(crate) fn version(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        id: VersionId(row.get(0)?),
        name: row.get(1)?,
        version: row.get(2)?,
        hash: Digest(row.get(3)?),
        spec: row.get(4)?,
        created_at: timestamp(row, 5)?,
    })
}
