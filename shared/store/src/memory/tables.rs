//! The tables, and the guards that a database would hold over them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use windlass_model::callee::CalleeKind;
use windlass_model::circuit::{Circuit, CircuitKey};
use windlass_model::event::EventBody;
use windlass_model::payload::Blob;
use windlass_model::rate_limit::{LimitKey, LimitState};
use windlass_model::{
    Attempt, Digest, Event, NodeIndex, RunId, RunStatus, SessionId, TenantId, Timestamp, VersionId, planted,
};

use super::groups::Place;
use crate::inbox::take_in;
use crate::stored::{StoredEvent, StoredSnapshot};
use crate::{
    Account, ApprovalChange, ApprovalRow, CalleeRow, IdempotencyKey, OutboxRow, Remember, RepairRow, Reply,
    RunRow, ScheduleRow, StoreError, VersionRow, WorkflowRow, WriteError,
};

#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) workflows: BTreeMap<(TenantId, String), Workflow>,
    pub(super) callees: BTreeMap<(TenantId, CalleeKind, String), Callee>,
    pub(super) circuits: BTreeMap<CircuitKey, Circuit>,
    pub(super) rate_limits: BTreeMap<LimitKey, LimitState>,
    pub(super) versions: BTreeMap<VersionId, Version>,
    /// With whether each is deleted.
    pub(super) schedules: BTreeMap<(TenantId, String), (ScheduleRow, bool)>,
    pub(super) places: BTreeMap<RunId, Place>,
    /// When each session ends.
    pub(super) sessions: HashMap<SessionId, Timestamp>,
    pub(super) replies: BTreeMap<ReplyKey, (Reply, Timestamp)>,
    pub(super) outbox: BTreeMap<i64, OutboxEntry>,
    pub(super) blobs: BTreeMap<(TenantId, Digest), Arc<[u8]>>,
    pub(super) last_outbox_id: i64,
    /// What was repaired.
    pub(super) repairs: Vec<RepairRow>,
}

/// Tenant, principal, route, key.
pub(super) type ReplyKey = (TenantId, String, String, String);

#[derive(Clone)]
pub(super) struct Run {
    pub(super) row: RunRow,
    /// The door has written since the engine that holds the run last did.
    pub(super) attention: bool,
    /// Its parent has taken in how it ended.
    pub(super) parent_told: bool,
    pub(super) log: Log,
    pub(super) snapshot: Option<StoredSnapshot>,
    pub(super) approvals: Vec<ApprovalRow>,
}

/// Events as they would be stored, with the indexes that keep impossible ones out.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub(super) events: Vec<StoredEvent>,
    outcomes: HashSet<(Option<NodeIndex>, Option<u32>, Attempt)>,
    has_ended: bool,
}

#[derive(Clone)]
pub(super) struct Workflow {
    pub(super) row: WorkflowRow,
    pub(super) is_hidden: bool,
}

#[derive(Clone)]
pub(super) struct Callee {
    pub(super) row: CalleeRow,
    pub(super) spec: String,
    pub(super) is_deleted: bool,
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) tenant: TenantId,
    pub(super) row: VersionRow,
}

#[derive(Clone)]
pub(super) struct OutboxEntry {
    pub(super) row: OutboxRow,
    pub(super) due_at: Timestamp,
    /// The last error of a message that was given up.
    pub(super) dead: Option<String>,
}

impl Log {
    /// Checks that events may follow, before anything is written.
    pub(super) fn check(&self, events: &[Event]) -> Result<(), StoreError> {
        let (mut outcomes, mut has_ended) = (HashSet::new(), self.has_ended);
        let next = self.events.last().map_or(1, |event| event.seq.0 + 1);
        for (expected, event) in (next..).zip(events) {
            if event.seq.0 != expected {
                return Err(refused(format!("event {} where {expected} must follow", event.seq)));
            }
            if event.body.is_terminal() && std::mem::replace(&mut has_ended, true) {
                return Err(refused("a second end of one run"));
            }
            if let Some(outcome) = outcome_of(event)
                && (self.outcomes.contains(&outcome) || !outcomes.insert(outcome))
            {
                return Err(refused(format!("a second outcome of one attempt: event {}", event.seq)));
            }
        }
        Ok(())
    }

    pub(super) fn append(&mut self, events: &[Event]) {
        for event in events {
            self.has_ended |= event.body.is_terminal();
            self.outcomes.extend(outcome_of(event));
            self.events.push(event.into());
        }
    }

    pub(super) fn read(&self, after: u32) -> Result<Vec<Event>, StoreError> {
        self.events.iter().filter(|event| event.seq.0 > after).map(|event| event.clone().read()).collect()
    }
}

fn outcome_of(event: &Event) -> Option<(Option<NodeIndex>, Option<u32>, Attempt)> {
    let attempt = event.attempt.filter(|_| EventBody::is_outcome(&event.body))?;
    Some((event.node, event.item, attempt))
}

impl Run {
    /// Changes the inbox as a write asks.
    pub(super) fn change_approvals(
        &mut self,
        changes: Vec<ApprovalChange>,
        events: &[Event],
        now: Timestamp,
    ) {
        for change in changes {
            take_in(&mut self.approvals, (self.row.id, &self.row.workflow), change, events, now);
        }
    }
}

impl Tables {
    pub(super) fn run(&self, tenant: TenantId, run_id: RunId) -> Option<&Run> {
        self.runs.get(&run_id).filter(|run| run.row.tenant == tenant || planted("runs_of_another_tenant"))
    }

    pub(super) fn is_alive(&self, session: SessionId, now: Timestamp) -> bool {
        self.sessions.get(&session).is_some_and(|expires_at| *expires_at > now)
    }

    /// How long until an engine may take this run; none when nothing but a person or a signal moves it.
    pub(super) fn claimable_after(
        &self,
        run: &RunRow,
        now: Timestamp,
        stale_after: Duration,
    ) -> Option<Duration> {
        let is_free = match run.lease_owner {
            _ if run.status.is_terminal() => {
                return planted("ended_run_is_taken").then_some(Duration::ZERO);
            }
            Some(_) if planted("held_run_is_taken") => true,
            Some(_) if planted("dead_keep_their_runs") => false,
            Some(owner) => !self.is_alive(owner, now) || run.last_activity_at.plus(stale_after) < now,
            None if wants_engine(run.status) => true,
            None if planted("ends_of_children_are_not_swept") => false,
            None if self.ended_children(run.id).next().is_some() => true,
            None if planted("timers_are_not_swept") => false,
            None => return run.wake_at.map(|wake_at| now.until(wake_at)),
        };
        is_free.then_some(Duration::ZERO)
    }

    /// Children of a run that have ended, and whose end it has not taken in.
    pub(super) fn ended_children(&self, parent: RunId) -> impl Iterator<Item = &Run> {
        let children = self.runs.values().filter(move |run| run.row.parent == Some(parent));
        children.filter(|run| run.row.status.is_terminal() && !run.parent_told)
    }

    /// Since when time, or the end of a child, moves a run that nobody holds.
    pub(super) fn due_since(&self, run: &RunRow, now: Timestamp) -> Option<Timestamp> {
        let ended = self.ended_children(run.id).filter_map(|child| child.row.ended_at);
        ended.chain(run.wake_at.filter(|wake_at| *wake_at <= now)).min()
    }

    pub(super) fn check_key(&self, tenant: TenantId, remember: Option<&Remember>) -> Result<(), WriteError> {
        match remember {
            Some(_) if planted("key_used_twice") => Ok(()),
            Some(remember) if self.replies.contains_key(&reply_key(tenant, &remember.key)) => {
                Err(WriteError::KeyTaken)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn remember(&mut self, tenant: TenantId, remember: Option<Remember>, now: Timestamp) {
        if let Some(Remember { key, reply }) = remember {
            self.replies.insert(reply_key(tenant, &key), (reply, now));
        }
    }

    pub(super) fn keep_accounts(&mut self, accounts: Vec<Account>, now: Timestamp) {
        let row = |Account { actor, damage }: Account| RepairRow {
            at: now,
            actor: actor.to_string(),
            kind: damage.kind,
            subject: damage.subject,
            detail: damage.detail,
        };
        self.repairs.extend(accounts.into_iter().map(row));
    }

    pub(super) fn keep_blobs(&mut self, tenant: TenantId, blobs: Vec<Blob>) {
        for blob in blobs {
            self.blobs.entry((tenant, blob.digest)).or_insert(blob.content);
        }
    }
}

/// Whether a run in this status waits for an engine and for nothing else.
pub(super) fn wants_engine(status: RunStatus) -> bool {
    matches!(status, RunStatus::Queued | RunStatus::Running)
}

pub(super) fn reply_key(tenant: TenantId, key: &IdempotencyKey) -> ReplyKey {
    let tenant = if planted("keys_shared_by_tenants") { TenantId::DEFAULT } else { tenant };
    (tenant, key.principal.clone(), key.route.clone(), key.key.clone())
}

pub(super) fn refused(problem: impl Into<String>) -> StoreError {
    StoreError::Refused(problem.into().into())
}
