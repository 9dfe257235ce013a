//! What a run is right now: the fold of its events, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{ApprovalExpired, Artifact, Event, EventBody, ExpiryAction, SkipReason, Then, WaitingOn};
use crate::plan::{Accept, Plan, Role};
use crate::{Actor, Attempt, Digest, Epoch, EventSeq, NodeIndex, Payload, RunId, StepError, Timestamp};

/// Where a run stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Wants an engine.
    Queued,
    /// An engine holds it.
    Running,
    /// Parked until a timer, a person or a signal moves it; costs nothing.
    Waiting,
    /// Needs a person; the reason says why.
    Paused,
    /// A cancel was accepted; what is in flight is being stopped.
    Canceling,
    Completed,
    Failed,
    Canceled,
}

impl RunStatus {
    pub const ALL: &[RunStatus] = &[
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Canceling,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
    ];

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Canceling => "canceling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.as_str() == text)
    }
}

/// Why a run needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    Requested,
    StepFailed,
    /// An engine died while a step that must not be repeated was in flight.
    EngineInterrupted,
    /// A gate expired and its definition asks for a person.
    Escalated,
    /// The run was there each time its engine died, several times in a row.
    Quarantined,
}

impl PauseReason {
    pub const ALL: &[PauseReason] =
        &[Self::Requested, Self::StepFailed, Self::EngineInterrupted, Self::Escalated, Self::Quarantined];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::StepFailed => "step_failed",
            Self::EngineInterrupted => "engine_interrupted",
            Self::Escalated => "escalated",
            Self::Quarantined => "quarantined",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun: its needs have not settled, or nobody has started it yet.
    #[default]
    Pending,
    /// An attempt is in flight.
    Running,
    /// At a gate, for a timer, for a signal, or between two attempts.
    Waiting,
    /// Failed or interrupted; a person decides.
    Paused,
    Succeeded,
    Failed,
    Skipped,
    Canceled,
}

impl StepStatus {
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Canceled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Canceled => "canceled",
        }
    }
}

/// Raised when the meaning or the shape of a stored fold changes: older snapshots are then ignored.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// A run, folded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    pub run_id: RunId,
    /// Seq of the last event that was applied.
    pub last_seq: EventSeq,
    pub epoch: Epoch,
    pub inputs: Payload,
    /// Who created the run.
    pub requester: Actor,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub deadline_at: Option<Timestamp>,
    pub last_event_at: Timestamp,
    pub phase: Phase,
    /// One per node of the plan, in its order.
    pub steps: Vec<Step>,
    /// Pending steps whose needs have all settled.
    pub ready: BTreeSet<NodeIndex>,
    /// Steps with an attempt in flight.
    pub in_flight: BTreeSet<NodeIndex>,
    /// What ends by itself, by time.
    pub timers: BTreeSet<(Timestamp, NodeIndex)>,
    /// Gates that were decided and wait for the engine to act on it.
    pub decided: BTreeSet<NodeIndex>,
    /// Steps that wait for a signal, by its name.
    pub listening: BTreeMap<String, BTreeSet<NodeIndex>>,
    /// Signals that no step has taken yet, oldest first.
    pub signals: BTreeMap<String, VecDeque<Payload>>,
    /// Steps that a person must decide about.
    pub paused_steps: BTreeSet<NodeIndex>,
    /// How many steps have not settled.
    pub unsettled: u32,
    /// How many engines in a row died while they held this run.
    pub deaths: u32,
    /// The last event was an engine taking the run.
    pub just_taken: bool,
    pub output: Payload,
    pub error: Option<StepError>,
}

/// The part of a run's status that events state outright. The rest follows from its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Active,
    Paused {
        reason: PauseReason,
        message: Option<String>,
    },
    /// A step's failure ends the run as soon as nothing is in flight.
    Failing,
    Canceling,
    Completed,
    Failed,
    Canceled,
}

/// A node's life inside one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub status: StepStatus,
    /// The current or last attempt; 0 before the first.
    pub attempt: Attempt,
    /// The attempt whose idempotency key the current one uses.
    pub key_attempt: Attempt,
    /// Definite failures since the last time a person asked for another try.
    pub failures: u16,
    /// Needs that have not settled.
    pub unmet: u32,
    /// A settled need did not end as this step requires.
    pub blocked: bool,
    /// The next attempt repeats one whose outcome is unknown.
    pub outcome_unknown: bool,
    /// It failed and the definition, or a person, let the run go on.
    pub passed_over: bool,
    pub wait: Option<Wait>,
    /// The gate of the current attempt, open or decided.
    pub gate: Option<Gate>,
    pub output: Payload,
    pub error: Option<StepError>,
    pub skip_reason: Option<SkipReason>,
    pub artifacts: Vec<Artifact>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Attempts that ended, oldest first.
    pub attempts: Vec<AttemptRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    pub on: WaitReason,
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum WaitReason {
    Timer,
    Signal {
        name: String,
    },
    Approval,
    /// Between two attempts.
    Retry,
}

/// A request for approval and what people answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The attempt that it lets through.
    pub attempt: Attempt,
    pub show: Payload,
    pub digest: Digest,
    pub requested_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub grants: Vec<Grant>,
    pub outcome: Option<GateOutcome>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub by: Actor,
    pub at: Timestamp,
    pub comment: Option<String>,
    pub form: Payload,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateOutcome {
    Granted,
    Rejected(Grant),
    Expired(ExpiryAction),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub attempt: Attempt,
    pub outcome: AttemptOutcome,
    pub started_at: Option<Timestamp>,
    pub ended_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Succeeded,
    Failed,
    TimedOut,
    Canceled,
    Lost,
}

impl Gate {
    /// What people filled in.
    fn forms(&mut self) -> impl Iterator<Item = &mut Payload> {
        let rejected = match &mut self.outcome {
            Some(GateOutcome::Rejected(by)) => Some(&mut by.form),
            _ => None,
        };
        self.grants.iter_mut().map(|grant| &mut grant.form).chain(rejected)
    }
}

impl RunState {
    /// A run as its first event, `run.created`, makes it.
    pub fn created(plan: &Plan, run_id: RunId, event: &Event) -> Result<Self, FoldError> {
        let EventBody::RunCreated(body) = &event.body else {
            return Err(FoldError::NotCreated);
        };
        let steps: Vec<Step> = plan
            .nodes
            .iter()
            .map(|node| Step { unmet: node.needs.len() as u32, ..Step::default() })
            .collect();
        let ready = plan.nodes.iter().filter(|node| node.needs.is_empty()).map(|node| node.index).collect();
        Ok(Self {
            run_id,
            last_seq: event.seq,
            epoch: Epoch::default(),
            inputs: body.inputs.clone(),
            requester: event.actor.clone().unwrap_or_else(Actor::engine),
            created_at: event.at,
            started_at: None,
            ended_at: None,
            deadline_at: body.deadline_at,
            last_event_at: event.at,
            phase: Phase::Active,
            unsettled: steps.len() as u32,
            steps,
            ready,
            in_flight: BTreeSet::new(),
            timers: BTreeSet::new(),
            decided: BTreeSet::new(),
            listening: BTreeMap::new(),
            signals: BTreeMap::new(),
            paused_steps: BTreeSet::new(),
            deaths: 0,
            just_taken: false,
            output: Payload::null(),
            error: None,
        })
    }

    /// Folds a whole log, or the rest of one onto a snapshot.
    pub fn fold(
        plan: &Plan,
        run_id: RunId,
        snapshot: Option<RunState>,
        events: &[Event],
    ) -> Result<Self, FoldError> {
        let (mut state, rest) = match (snapshot, events) {
            (Some(state), rest) => (state, rest),
            (None, [first, rest @ ..]) => (Self::created(plan, run_id, first)?, rest),
            (None, []) => return Err(FoldError::NotCreated),
        };
        if state.steps.len() != plan.nodes.len() {
            return Err(FoldError::OtherPlan);
        }
        for event in rest {
            state.apply(plan, event)?;
        }
        Ok(state)
    }

    pub fn step(&self, node: NodeIndex) -> &Step {
        &self.steps[node.at()]
    }

    /// The run's status. `held` says whether an engine has the run: the log alone cannot know.
    pub fn status(&self, held: bool) -> RunStatus {
        match self.phase {
            Phase::Completed => RunStatus::Completed,
            Phase::Failed => RunStatus::Failed,
            Phase::Canceled => RunStatus::Canceled,
            Phase::Canceling => RunStatus::Canceling,
            Phase::Paused { .. } => RunStatus::Paused,
            Phase::Active | Phase::Failing if self.wants_engine() || !self.in_flight.is_empty() => {
                if held {
                    RunStatus::Running
                } else {
                    RunStatus::Queued
                }
            }
            Phase::Active | Phase::Failing => RunStatus::Waiting,
        }
    }

    pub fn pause_reason(&self) -> Option<PauseReason> {
        match &self.phase {
            Phase::Paused { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, Phase::Completed | Phase::Failed | Phase::Canceled)
    }

    /// Nothing new may start: a cancel was accepted, a step's failure ends the run, or its time is over.
    pub fn is_stopping(&self, now: Timestamp) -> bool {
        matches!(self.phase, Phase::Canceling | Phase::Failing)
            || (!self.is_terminal() && self.deadline_at.is_some_and(|deadline| deadline <= now))
    }

    /// Whether an engine would have something to do at once, timers aside.
    pub fn wants_engine(&self) -> bool {
        match self.phase {
            Phase::Active => !self.ready.is_empty() || !self.decided.is_empty() || self.unsettled == 0,
            Phase::Failing | Phase::Canceling => true,
            Phase::Paused { .. } | Phase::Completed | Phase::Failed | Phase::Canceled => false,
        }
    }

    /// When time alone moves this run next. A paused run is moved by nothing but its deadline.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let timer = match self.phase {
            Phase::Active => self.timers.first().map(|(at, _)| *at),
            Phase::Paused { .. } => None,
            _ => return None,
        };
        match (timer, self.deadline_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// For serial runs: index of the first step that has not settled, or the number of steps.
    pub fn current_step_index(&self) -> usize {
        self.steps.iter().position(|step| !step.status.is_settled()).unwrap_or(self.steps.len())
    }

    /// The key that the current attempt of a step sends along with its effect.
    pub fn idempotency_key(&self, plan: &Plan, node: NodeIndex) -> String {
        idempotency_key(self.run_id, &plan.node(node).id, None, self.step(node).key_attempt)
    }

    /// Payloads that lie in the blob store and that the rules or expressions of the plan may read: inputs,
    /// outputs, signals that no step has taken yet, and forms that become the output of a gate.
    pub fn missing_payloads(&mut self, plan: &Plan) -> impl Iterator<Item = &mut Payload> {
        let steps = self.steps.iter_mut().zip(&plan.nodes).flat_map(|(step, node)| {
            let waits = step.status == StepStatus::Waiting;
            let output = node.output_is_read.then_some(&mut step.output);
            output.into_iter().chain(step.gate.as_mut().filter(|_| waits).into_iter().flat_map(Gate::forms))
        });
        let signals = self.signals.values_mut().flatten();
        let all = std::iter::once(&mut self.inputs).chain(steps).chain(signals);
        all.filter(|payload| payload.missing().is_some())
    }

    /// Whether the needs of `dependent` accept how `node` has settled.
    pub(crate) fn satisfies(
        &self,
        plan: &Plan,
        node: NodeIndex,
        dependent: NodeIndex,
        accept: Accept,
    ) -> bool {
        let step = self.step(node);
        match accept {
            Accept::Default => match step.status {
                StepStatus::Succeeded => !plan.is_branch_not_taken(
                    plan.node(node),
                    step.output.value().map(|value| &**value),
                    dependent,
                ),
                StepStatus::Failed | StepStatus::Skipped => step.passed_over,
                _ => false,
            },
            Accept::Listed { succeeded, skipped, failed } => match step.status {
                StepStatus::Succeeded => {
                    succeeded
                        && !plan.is_branch_not_taken(
                            plan.node(node),
                            step.output.value().map(|value| &**value),
                            dependent,
                        )
                }
                StepStatus::Skipped => skipped || step.passed_over,
                StepStatus::Failed => failed,
                _ => false,
            },
        }
    }
}

/// `<run>/<node>[<item>]/<n>`: the same for attempts whose predecessor's outcome is unknown.
pub fn idempotency_key(run: RunId, node: &str, item: Option<u32>, key_attempt: Attempt) -> String {
    match item {
        Some(item) => format!("{run}/{node}[{item}]/{key_attempt}"),
        None => format!("{run}/{node}/{key_attempt}"),
    }
}

/// The log does not make sense: it is damaged, or belongs to another definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error("the log does not begin with run.created")]
    NotCreated,
    #[error("event {found} follows event {last}: the log has a gap")]
    Gap { last: EventSeq, found: EventSeq },
    #[error("the log belongs to a definition with another number of nodes")]
    OtherPlan,
    #[error("event {seq} ({name}) needs a step and names none that exists")]
    NoStep { seq: EventSeq, name: &'static str },
    #[error("event {seq} ({name}) comes after the run has ended")]
    AfterEnd { seq: EventSeq, name: &'static str },
}

// ---- apply -------------------------------------------------------------------------------------

impl RunState {
    /// Takes one event into the state. The only place where state changes.
    ///
    /// # Errors
    /// [`FoldError`] when the event cannot follow what was applied so far. Nothing was changed then.
    pub fn apply(&mut self, plan: &Plan, event: &Event) -> Result<(), FoldError> {
        if event.seq != self.last_seq.next() {
            return Err(FoldError::Gap { last: self.last_seq, found: event.seq });
        }
        if self.is_terminal() {
            return Err(FoldError::AfterEnd { seq: event.seq, name: event.body.name() });
        }
        match event.node {
            Some(node) if node.at() < self.steps.len() => self.apply_to_step(plan, event, node),
            Some(_) => return Err(FoldError::NoStep { seq: event.seq, name: event.body.name() }),
            None => self.apply_to_run(event)?,
        }
        self.just_taken = matches!(event.body, EventBody::EngineTaken(_));
        self.last_seq = event.seq;
        self.last_event_at = event.at;
        Ok(())
    }

    fn apply_to_run(&mut self, event: &Event) -> Result<(), FoldError> {
        match &event.body {
            EventBody::EngineTaken(_) => {
                // The engine before died with work in its hands, or before it wrote anything at all.
                self.deaths = if !self.in_flight.is_empty() || self.just_taken { self.deaths + 1 } else { 0 };
                self.epoch = event.epoch.unwrap_or(Epoch(self.epoch.0 + 1));
                self.started_at.get_or_insert(event.at);
            }
            EventBody::RunPaused(body) => {
                self.phase = Phase::Paused { reason: body.reason, message: body.message.clone() };
            }
            EventBody::RunQuarantined(_) => {
                self.phase = Phase::Paused { reason: PauseReason::Quarantined, message: None };
            }
            EventBody::RunResumed(_) => {
                self.phase = Phase::Active;
                self.deaths = 0;
                for node in std::mem::take(&mut self.paused_steps) {
                    self.steps[node.at()].failures = 0;
                    self.make_ready_again(node);
                }
            }
            EventBody::CancelRequested(_) => self.phase = Phase::Canceling,
            EventBody::RunCanceled(_) => self.end(event.at, Phase::Canceled),
            EventBody::RunCompleted(body) => {
                self.output = body.output.clone();
                self.end(event.at, Phase::Completed);
            }
            EventBody::RunFailed(body) => {
                self.error = Some(body.error.clone());
                self.end(event.at, Phase::Failed);
            }
            EventBody::SignalReceived(body) => {
                self.signals.entry(body.name.clone()).or_default().push_back(body.payload.clone());
                if let Some(node) = self.listening.get(&body.name).and_then(|nodes| nodes.first()) {
                    self.decided.insert(*node);
                }
            }
            _ => return Err(FoldError::NoStep { seq: event.seq, name: event.body.name() }),
        }
        Ok(())
    }

    fn end(&mut self, at: Timestamp, phase: Phase) {
        self.phase = phase;
        self.ended_at = Some(at);
        self.ready.clear();
        self.timers.clear();
        self.decided.clear();
        self.listening.clear();
        self.signals.clear();
        self.paused_steps.clear();
    }

    fn apply_to_step(&mut self, plan: &Plan, event: &Event, node: NodeIndex) {
        let at = event.at;
        match &event.body {
            EventBody::StepStarted(body) => {
                self.leave_wait(node);
                self.ready.remove(&node);
                self.in_flight.insert(node);
                let step = &mut self.steps[node.at()];
                step.status = StepStatus::Running;
                step.attempt = event.attempt.unwrap_or(step.attempt + 1);
                step.key_attempt = body.key_attempt.unwrap_or(step.attempt);
                step.outcome_unknown = false;
                step.started_at = Some(at);
                step.ended_at = None;
                step.error = None;
            }
            EventBody::StepSucceeded(body) => {
                self.deaths = 0;
                if let Role::Signal { name, .. } = &plan.node(node).role {
                    self.take_signal(name);
                }
                self.end_attempt(event, node, AttemptOutcome::Succeeded, None);
                let step = &mut self.steps[node.at()];
                step.output = body.output.clone();
                step.artifacts.extend(body.artifacts.iter().cloned());
                step.error = None;
                self.settle(plan, node, StepStatus::Succeeded, at);
            }
            EventBody::StepFailed(body) => {
                self.end_attempt(event, node, AttemptOutcome::Failed, Some(&body.error));
                self.steps[node.at()].artifacts.extend(body.artifacts.iter().cloned());
                self.after_failure(plan, node, &body.error, &body.then, at);
            }
            EventBody::StepTimedOut(body) => {
                self.end_attempt(event, node, AttemptOutcome::TimedOut, Some(&body.error));
                self.after_failure(plan, node, &body.error, &body.then, at);
            }
            EventBody::StepCanceled(_) => {
                self.end_attempt(event, node, AttemptOutcome::Canceled, None);
                self.settle(plan, node, StepStatus::Canceled, at);
            }
            EventBody::StepSkipped(body) => {
                self.leave_wait(node);
                let step = &mut self.steps[node.at()];
                step.skip_reason = Some(body.reason);
                step.passed_over = body.reason == SkipReason::Command;
                self.settle(plan, node, StepStatus::Skipped, at);
            }
            EventBody::StepLost(body) => {
                self.end_attempt(event, node, AttemptOutcome::Lost, None);
                self.steps[node.at()].outcome_unknown = true;
                if body.retry {
                    self.make_ready_again(node);
                } else {
                    self.pause_step(node);
                }
            }
            EventBody::RetryScheduled(body) => {
                if self.paused_steps.remove(&node) {
                    self.steps[node.at()].failures = 0;
                }
                if body.at <= at {
                    self.leave_wait(node);
                    self.make_ready_again(node);
                } else {
                    self.wait(node, WaitReason::Retry, Some(body.at));
                }
            }
            EventBody::StepWaiting(body) => {
                self.begin_attempt(node, at);
                match &body.on {
                    WaitingOn::Timer => self.wait(node, WaitReason::Timer, body.until),
                    WaitingOn::Signal { name } => {
                        self.listening.entry(name.clone()).or_default().insert(node);
                        self.wait(node, WaitReason::Signal { name: name.clone() }, body.until);
                    }
                }
            }
            EventBody::StepPaused(_) => self.pause_step(node),
            EventBody::ApprovalRequested(body) => {
                let is_gate_node = matches!(plan.node(node).role, Role::Approval(_));
                if is_gate_node {
                    self.begin_attempt(node, at);
                }
                let step = &mut self.steps[node.at()];
                let attempt = if is_gate_node { step.attempt } else { step.attempt + 1 };
                step.gate = Some(Gate {
                    attempt,
                    show: body.show.clone(),
                    digest: body.digest.clone(),
                    requested_at: at,
                    expires_at: body.expires_at,
                    grants: Vec::new(),
                    outcome: None,
                });
                self.ready.remove(&node);
                self.wait(node, WaitReason::Approval, body.expires_at);
            }
            EventBody::ApprovalGranted(body) => {
                let min = gate_spec_min(plan, node);
                let grant = Grant {
                    by: event.actor.clone().unwrap_or_else(Actor::engine),
                    at,
                    comment: body.comment.clone(),
                    form: body.form.clone(),
                };
                if let Some(gate) = self.steps[node.at()].gate.as_mut() {
                    gate.grants.push(grant);
                    if gate.grants.len() as u32 >= min {
                        gate.outcome = Some(GateOutcome::Granted);
                        self.decided.insert(node);
                    }
                }
            }
            EventBody::ApprovalRejected(body) => {
                let grant = Grant {
                    by: event.actor.clone().unwrap_or_else(Actor::engine),
                    at,
                    comment: body.comment.clone(),
                    form: body.form.clone(),
                };
                if let Some(gate) = self.steps[node.at()].gate.as_mut() {
                    gate.outcome = Some(GateOutcome::Rejected(grant));
                    self.decided.insert(node);
                }
            }
            EventBody::ApprovalExpired(ApprovalExpired { action }) => {
                self.leave_timer(node);
                if let Some(gate) = self.steps[node.at()].gate.as_mut() {
                    gate.expires_at = None;
                    if *action != ExpiryAction::Escalate {
                        gate.outcome = Some(GateOutcome::Expired(*action));
                        self.decided.insert(node);
                    }
                }
            }
            // A timer that fired is followed by the outcome; an emitted event changes nothing here.
            EventBody::TimerFired(_) => self.leave_timer(node),
            EventBody::EventEmitted(_) => {}
            // Events of the run as a whole carry no node; one that does changes nothing.
            _ => {}
        }
    }

    /// A step that no runner moves begins its attempt by waiting.
    fn begin_attempt(&mut self, node: NodeIndex, at: Timestamp) {
        let step = &mut self.steps[node.at()];
        step.attempt += 1;
        step.key_attempt = step.attempt;
        step.outcome_unknown = false;
        step.started_at = Some(at);
        step.ended_at = None;
        step.error = None;
        self.ready.remove(&node);
    }

    fn end_attempt(
        &mut self,
        event: &Event,
        node: NodeIndex,
        outcome: AttemptOutcome,
        error: Option<&StepError>,
    ) {
        self.in_flight.remove(&node);
        self.leave_wait(node);
        let step = &mut self.steps[node.at()];
        step.ended_at = Some(event.at);
        if let Some(attempt) = event.attempt {
            // An attempt may end without having started: its gate was refused, its condition is broken.
            step.attempt = step.attempt.max(attempt);
            step.attempts.push(AttemptRecord {
                attempt,
                outcome,
                started_at: step.started_at,
                ended_at: event.at,
                error: error.cloned(),
            });
        }
    }

    fn after_failure(&mut self, plan: &Plan, node: NodeIndex, error: &StepError, then: &Then, at: Timestamp) {
        let step = &mut self.steps[node.at()];
        step.error = Some(error.clone());
        step.failures += 1;
        match then {
            // `step.retry_scheduled` follows in the same commit.
            Then::Retry => step.status = StepStatus::Waiting,
            Then::Pause => self.pause_step(node),
            Then::Continue { output } => {
                step.passed_over = true;
                step.output = output.clone();
                self.settle(plan, node, StepStatus::Failed, at);
            }
            Then::Fail => {
                if !matches!(self.phase, Phase::Canceling) {
                    self.error.get_or_insert_with(|| error.clone());
                    self.phase = Phase::Failing;
                }
                self.settle(plan, node, StepStatus::Failed, at);
            }
        }
    }

    fn settle(&mut self, plan: &Plan, node: NodeIndex, status: StepStatus, at: Timestamp) {
        self.ready.remove(&node);
        self.in_flight.remove(&node);
        self.paused_steps.remove(&node);
        self.decided.remove(&node);
        let step = &mut self.steps[node.at()];
        step.status = status;
        step.ended_at = Some(at);
        self.unsettled -= 1;
        for dependent in &plan.node(node).dependents {
            let accept = plan
                .node(*dependent)
                .needs
                .iter()
                .find(|need| need.node == node)
                .map_or(Accept::Default, |need| need.accept);
            let satisfied = self.satisfies(plan, node, *dependent, accept);
            let step = &mut self.steps[dependent.at()];
            step.unmet = step.unmet.saturating_sub(1);
            step.blocked |= !satisfied;
            if step.unmet == 0 && step.status == StepStatus::Pending {
                self.ready.insert(*dependent);
            }
        }
    }

    fn pause_step(&mut self, node: NodeIndex) {
        self.leave_wait(node);
        self.ready.remove(&node);
        self.steps[node.at()].status = StepStatus::Paused;
        self.paused_steps.insert(node);
    }

    /// A person, or a lost attempt that may be repeated, asks for another try.
    fn make_ready_again(&mut self, node: NodeIndex) {
        let step = &mut self.steps[node.at()];
        step.status = StepStatus::Pending;
        // A gate lets through the attempts that follow it by themselves; a person's retry asks anew.
        if !step.outcome_unknown {
            step.gate = None;
        }
        self.ready.insert(node);
    }

    fn wait(&mut self, node: NodeIndex, on: WaitReason, until: Option<Timestamp>) {
        self.leave_timer(node);
        let step = &mut self.steps[node.at()];
        step.status = StepStatus::Waiting;
        step.wait = Some(Wait { on, until });
        if let Some(at) = until {
            self.timers.insert((at, node));
        }
    }

    fn leave_timer(&mut self, node: NodeIndex) {
        if let Some(at) = self.steps[node.at()].wait.as_mut().and_then(|wait| wait.until.take()) {
            self.timers.remove(&(at, node));
        }
    }

    fn leave_wait(&mut self, node: NodeIndex) {
        self.leave_timer(node);
        self.decided.remove(&node);
        if let Some(Wait { on: WaitReason::Signal { name }, .. }) = self.steps[node.at()].wait.take()
            && let Some(nodes) = self.listening.get_mut(&name)
        {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.listening.remove(&name);
            }
        }
    }

    fn take_signal(&mut self, name: &str) {
        if let Some(queue) = self.signals.get_mut(name) {
            queue.pop_front();
            if queue.is_empty() {
                self.signals.remove(name);
            }
        }
    }
}

fn gate_spec_min(plan: &Plan, node: NodeIndex) -> u32 {
    plan.node(node).gate_spec().map_or(1, |spec| spec.min)
}

impl crate::plan::Node {
    /// The gate that this node is, or that stands before it.
    pub fn gate_spec(&self) -> Option<&crate::plan::GateSpec> {
        match &self.role {
            Role::Approval(spec) => Some(spec),
            _ => self.gate.as_ref(),
        }
    }
}

/// JSON of a value that may still lie in the blob store: the value, or its reference.
pub fn payload_json(payload: &Payload) -> Value {
    serde_json::to_value(payload).expect("payloads are plain data")
}
