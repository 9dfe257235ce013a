//! The values that pass through the port.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use windlass_model::event::{Event, EventBody, ExpiryAction};
use windlass_model::payload::Blob;
use windlass_model::state::GateOutcome;
use windlass_model::{
    Attempt, Digest, Epoch, EventSeq, PauseReason, Payload, Plan, Priority, Ring, RunId, RunState, RunStatus,
    RunVersion, SessionId, TenantId, Timestamp, VersionId, planted,
};

use crate::NewRun;

/// A run's whole state is stored anew after this many events.
pub const SNAPSHOT_EVERY_EVENTS: u32 = 256;

/// The database could not do what was asked. A cause is told here, and not once more as a source.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not there right now; the same call may work later.
    #[error("the database is not available: {0}")]
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// A row does not say what it must.
    #[error("the database holds something unreadable: {0}")]
    Damaged(String),
    /// A fault in Windlass or in the schema.
    #[error("the database refused: {0}")]
    Refused(Box<dyn std::error::Error + Send + Sync>),
}

/// A write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else wrote in between; read again and decide again.
    #[error("the row has moved since it was read")]
    Moved,
    /// The run belongs to another engine, or has ended.
    #[error("the lease is lost")]
    Fenced,
    /// The idempotency key was used before.
    #[error("the idempotency key was used before")]
    KeyTaken,
    /// The group of a new run is full: this run is in it.
    #[error("the concurrency group is full")]
    Occupied { by: RunId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Proof that an engine holds a run. Only a claim makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    pub session: SessionId,
    pub epoch: Epoch,
}

/// Under which condition a write may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The door: the row still has the version that the command was decided on.
    Door,
    /// The engine: besides, the lease is still this one and the run has not ended.
    Engine(Fence),
}

pub type Labels = BTreeMap<String, String>;

/// Values that are too large for their events and not in the blob store yet.
pub(crate) fn blobs_of(events: &[Event]) -> Vec<Blob> {
    events.iter().flat_map(|event| event.body.payloads()).filter_map(Payload::new_blob).collect()
}

/// What lists and the scheduler read of a run: a function of its fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    pub status: RunStatus,
    pub paused_reason: Option<PauseReason>,
    pub wake_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Type of the error that ended the run.
    pub error: Option<String>,
}

impl Projection {
    /// `held`: whether an engine has the run after this write.
    pub fn of(state: &RunState, held: bool) -> Self {
        Self {
            status: state.status(held),
            paused_reason: state.pause_reason(),
            wake_at: state.wake_at(),
            started_at: state.started_at,
            ended_at: state.ended_at,
            error: state.error.as_ref().filter(|_| state.is_terminal()).map(|error| error.kind.clone()),
        }
    }
}

/// One append to a run: by the door or by its engine.
#[derive(Clone, Debug)]
pub struct RunWrite {
    pub run_id: RunId,
    pub tenant: TenantId,
    pub guard: Guard,
    /// The row's version when the state was read.
    pub version: RunVersion,
    /// Consecutive, beginning at the row's `next_seq`. Empty when the engine only lets go.
    pub events: Vec<Event>,
    pub projection: Projection,
    /// The engine lets the run go with this write. Ignored for the door.
    pub release: bool,
    /// The fold after `events`, when it is time to keep it.
    pub snapshot: Option<Arc<RunState>>,
    pub blobs: Vec<Blob>,
    pub approvals: Vec<ApprovalChange>,
    pub outbox: Vec<OutboxMessage>,
    /// Runs that begin with this write: steps start them, or one takes this run's place.
    pub children: Vec<NewRun>,
    /// Children whose end `events` take in: it wakes this run no more.
    pub finished: Vec<RunId>,
    /// The run ends, and its place in its group is free.
    pub leaves_group: bool,
    pub remember: Option<Remember>,
}

impl RunWrite {
    /// A write that follows from `state`, into which `events` have been applied already.
    pub fn new(
        tenant: TenantId,
        guard: Guard,
        version: RunVersion,
        plan: &Plan,
        state: &RunState,
        events: Vec<Event>,
        held: bool,
    ) -> Self {
        let before = state.last_seq.0 - events.len() as u32;
        let every = events_between_snapshots(state);
        let snapshot = (before / every != state.last_seq.0 / every).then(|| Arc::new(state.clone()));
        Self {
            run_id: state.run_id,
            tenant,
            guard,
            version,
            approvals: ApprovalChange::from_events(plan, state, &events),
            outbox: (events.iter().filter(|_| !planted("outbox_forgotten")))
                .filter_map(OutboxMessage::from_event)
                .collect(),
            children: Vec::new(),
            finished: events.iter().filter_map(crate::ended_child::finished_child).collect(),
            projection: Projection::of(state, held),
            release: !held,
            leaves_group: state.is_terminal() && state.group.is_some(),
            blobs: blobs_of(&events),
            events,
            snapshot,
            remember: None,
        }
    }
}

/// A fold of thousands of steps is stored when the log has grown by as many events, so that all its snapshots
/// together cost no more than the log. Powers of two, because the number of steps may grow with the log.
fn events_between_snapshots(state: &RunState) -> u32 {
    let steps = u32::try_from(state.size()).unwrap_or(u32::MAX / 2);
    SNAPSHOT_EVERY_EVENTS.max(steps.next_power_of_two())
}

/// A run's row.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    pub id: RunId,
    pub tenant: TenantId,
    pub version_id: VersionId,
    /// Name of the definition, and its version when it was published.
    pub workflow: String,
    pub workflow_version: Option<u32>,
    pub status: RunStatus,
    pub paused_reason: Option<PauseReason>,
    pub version: RunVersion,
    pub next_seq: EventSeq,
    pub wake_at: Option<Timestamp>,
    pub last_activity_at: Timestamp,
    pub lease_owner: Option<SessionId>,
    pub epoch: Epoch,
    /// The run whose step started this one.
    pub parent: Option<RunId>,
    pub priority: Priority,
    pub labels: Labels,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub error: Option<String>,
}

impl RunRow {
    /// What to ring with for this run.
    pub fn ring(&self) -> Ring {
        Ring { run_id: self.id, tenant: self.tenant, priority: self.priority }
    }
}

/// All it takes to fold a run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    pub row: RunRow,
    pub snapshot: Option<RunState>,
    /// Everything after the snapshot; everything when there is none.
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Any of these; empty means all.
    pub statuses: Vec<RunStatus>,
    pub workflow: Option<String>,
    /// Runs that steps of this one have started.
    pub parent: Option<RunId>,
    pub labels: Vec<(String, String)>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    /// Part of the workflow's name, the run's id, a label's value or the error's type. Case is ignored.
    pub text: Option<String>,
}

// ---- approvals ---------------------------------------------------------------------------------

/// What becomes of the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalChange {
    Opened {
        node: String,
        attempt: Attempt,
        seq: EventSeq,
        expires_at: Option<Timestamp>,
    },
    Closed {
        node: String,
        attempt: Attempt,
        decision: ApprovalDecision,
        by: Option<String>,
    },
    /// The run has ended: whatever is open is withdrawn.
    ClosedAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDecision {
    Granted,
    Rejected,
    Expired,
    /// The run ended, or the step was skipped or asked anew, before anyone decided.
    Withdrawn,
}

impl ApprovalDecision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Granted, Self::Rejected, Self::Expired, Self::Withdrawn]
            .into_iter()
            .find(|decision| decision.as_str() == text)
    }
}

impl ApprovalChange {
    pub(crate) fn from_events(plan: &Plan, state: &RunState, events: &[Event]) -> Vec<Self> {
        let mut changes = Vec::new();
        for event in events {
            if event.body.is_terminal() {
                let is_moved = matches!(&event.body, EventBody::RunCanceled(body) if body.moved_to.is_some());
                if !is_moved || !planted("moved_run_leaves_its_gates") {
                    changes.push(Self::ClosedAll);
                }
                continue;
            }
            let Some(index) = event.node else { continue };
            // What an expired gate let through may have left it behind already.
            let gate = state.step(index).gate.as_ref();
            let Some(attempt) = event.attempt.or(gate.map(|gate| gate.attempt)) else { continue };
            let outcome = gate.map(|gate| gate.outcome.as_ref());
            let node = || plan.node(index).id.clone();
            let by = || event.actor.as_ref().map(ToString::to_string);
            let closed = |decision, by| Self::Closed { node: node(), attempt, decision, by };
            match &event.body {
                EventBody::ApprovalRequested(body) => changes.push(Self::Opened {
                    node: node(),
                    attempt,
                    seq: event.seq,
                    expires_at: body.expires_at,
                }),
                EventBody::ApprovalGranted(_) if outcome == Some(Some(&GateOutcome::Granted)) => {
                    changes.push(closed(ApprovalDecision::Granted, by()));
                }
                EventBody::ApprovalRejected(_) => changes.push(closed(ApprovalDecision::Rejected, by())),
                EventBody::ApprovalExpired(body) if body.action != ExpiryAction::Escalate => {
                    changes.push(closed(ApprovalDecision::Expired, None));
                }
                EventBody::StepSkipped(_) | EventBody::StepCanceled(_) | EventBody::StepEdited(_)
                    if outcome == Some(None) =>
                {
                    changes.push(closed(ApprovalDecision::Withdrawn, by()));
                }
                _ => {}
            }
        }
        changes
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalRow {
    pub run_id: RunId,
    pub workflow: String,
    pub node: String,
    pub attempt: Attempt,
    /// The event `approval.requested`, where what is shown stands.
    pub seq: EventSeq,
    pub requested_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub decided_at: Option<Timestamp>,
    pub decision: Option<ApprovalDecision>,
    pub decided_by: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// True: decided ones; false: open ones; none: both.
    pub decided: Option<bool>,
    pub run_id: Option<RunId>,
}

/// Where a page of approvals ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalCursor {
    pub requested_at: Timestamp,
    pub run_id: RunId,
    pub seq: EventSeq,
}

// ---- workflows ---------------------------------------------------------------------------------

/// A definition as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub name: String,
    pub hash: Digest,
    /// Canonical JSON.
    pub spec: String,
}

#[derive(Clone, Debug)]
pub struct NewWorkflow {
    pub tenant: TenantId,
    pub definition: Definition,
    pub tags: Vec<String>,
    pub precondition: Precondition,
    pub remember: Option<Remember>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// There is no workflow of that name.
    Absent,
    /// There is one, with this revision.
    Revision(u32),
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutWorkflow {
    pub workflow: WorkflowRow,
    pub created: bool,
    pub new_version: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowRow {
    pub name: String,
    /// One more at every change; the ETag.
    pub revision: u32,
    pub latest_version: u32,
    pub hash: Digest,
    pub tags: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowFilter {
    pub tag: Option<String>,
    /// Part of the name. Case is ignored.
    pub text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    pub id: VersionId,
    pub name: String,
    /// None for a definition that came inline with a run.
    pub version: Option<u32>,
    pub hash: Digest,
    pub spec: String,
    pub created_at: Timestamp,
}

// ---- idempotency, outbox, integrity ------------------------------------------------------------

/// What makes two requests the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Who asked.
    pub principal: String,
    /// `POST /v1/workflow-runs`
    pub route: String,
    pub key: String,
}

/// An answer worth giving again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Digest of the request's body: another body under the same key is a mistake.
    pub request: Digest,
    pub status: u16,
    pub body: Value,
    pub location: Option<String>,
}

/// Kept in the transaction that did what was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Remember {
    pub key: IdempotencyKey,
    pub reply: Reply,
}

/// Something that must leave the database.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxMessage {
    /// The event it comes from.
    pub seq: EventSeq,
    pub topic: String,
    pub body: Value,
}

impl OutboxMessage {
    fn from_event(event: &Event) -> Option<Self> {
        match &event.body {
            EventBody::EventEmitted(body) => Some(Self {
                seq: event.seq,
                topic: body.kind.clone(),
                body: serde_json::to_value(&body.data).expect("payloads are plain data"),
            }),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    pub id: i64,
    pub tenant: TenantId,
    pub run_id: RunId,
    pub message: OutboxMessage,
    pub created_at: Timestamp,
    pub attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxSettlement {
    Delivered {
        id: i64,
    },
    Failed {
        id: i64,
        error: String,
        retry_after: std::time::Duration,
    },
    /// Given up; stays visible.
    Dead {
        id: i64,
        error: String,
    },
}
