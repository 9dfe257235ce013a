//! What a run is right now: the fold of its events, and nothing else.

mod apply;
mod begin;
mod children;
mod compensation;
mod error;
mod fan;
mod gate;
mod machine;
mod origin;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::concurrency::{Group, Place};
use crate::event::{Artifact, Event, EventBody, Origin, Parent, SkipReason};
use crate::plan::{Accept, Part, Plan};
use crate::schedule::Scheduled;
use crate::{Actor, Attempt, Epoch, EventSeq, NodeIndex, Payload, RunId, StepError, StepKey, Timestamp};

pub use children::Child;
pub use compensation::Compensation;
pub use error::FoldError;
pub use fan::{Fan, Slices};
pub use gate::{Gate, GateOutcome, Grant};
pub use machine::{Inbound, InboundKind, RunMachine};
pub use status::{PauseReason, RunStatus, StepStatus};

/// Raised when the meaning or the shape of a stored fold changes: older snapshots are then ignored.
pub const SNAPSHOT_FORMAT: u32 = 5;

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
    /// The step of another run that started this one.
    pub parent: Option<Parent>,
    /// The schedule that started it, and for which of its times.
    pub scheduled: Option<Scheduled>,
    /// The run that this one goes on from. What was reused of it stands in the steps.
    pub origin: Option<Box<Origin>>,
    /// The run that has taken the place of this one.
    pub moved_to: Option<RunId>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub deadline_at: Option<Timestamp>,
    /// Nothing begins before.
    pub start_at: Option<Timestamp>,
    /// That time had not come when the last event happened.
    pub is_delayed: bool,
    /// The group in which it needs a place before anything begins.
    pub group: Option<Group>,
    pub place: Place,
    /// When its turn comes under the rate limit of its workflow; none when nobody has asked for one.
    pub turn_at: Option<Timestamp>,
    /// An engine has begun something of it.
    pub has_begun: bool,
    /// Groups in which the runs above it have a place.
    pub groups_above: Vec<String>,
    pub last_event_at: Timestamp,
    pub phase: Phase,
    /// One per node of the plan, in its order.
    pub steps: Vec<Step>,
    /// Those that stand inside a fan-out, once they were called: one per item.
    pub items: BTreeMap<NodeIndex, BTreeMap<u32, Step>>,
    /// By the step whose items they are, from the moment they were found.
    pub fans: BTreeMap<NodeIndex, Fan>,
    /// Pending steps whose needs have all settled.
    pub ready: BTreeSet<StepKey>,
    /// Steps with an attempt in flight.
    pub in_flight: BTreeSet<StepKey>,
    /// What ends by itself, by time.
    pub timers: BTreeSet<(Timestamp, StepKey)>,
    /// Gates that were decided and wait for the engine to act on it.
    pub decided: BTreeSet<StepKey>,
    /// Steps that wait for a signal, by its name.
    pub listening: BTreeMap<String, BTreeSet<StepKey>>,
    /// Signals that no step has taken yet, oldest first.
    pub signals: BTreeMap<String, VecDeque<Payload>>,
    /// Steps that a person must decide about.
    pub paused_steps: BTreeSet<StepKey>,
    /// Runs that steps of this one started and that have not ended.
    pub children: BTreeMap<RunId, Child>,
    /// How many steps have not settled; those that only an error or an undoing calls for don't count.
    pub unsettled: u32,
    /// Steps that can be undone, and did, or may have done, what there is to undo; oldest first.
    pub acted: Vec<StepKey>,
    /// An error rule wants what was done undone.
    pub must_compensate: bool,
    /// The undoing, from the moment it was planned.
    pub compensation: Option<Compensation>,
    /// How many engines in a row died while they held this run.
    pub deaths: u32,
    /// The last event was an engine taking the run.
    pub just_taken: bool,
    pub output: Payload,
    pub error: Option<StepError>,
    /// With `type: machine`.
    pub machine: Option<RunMachine>,
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
    Compensating,
    Completed,
    Failed,
    Canceled,
}

/// A node's life inside one run. What most steps don't have is left out of snapshots, which may hold thousands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
    /// The next attempt repeats one whose outcome is unknown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outcome_unknown: bool,
    /// It failed and the definition, or a person, let the run go on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub passed_over: bool,
    /// It ended in the run that this one goes on from.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// When the turn of the current attempt comes, if it had to wait for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_at: Option<Timestamp>,
    /// The gate of the current attempt, open or decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Box<Gate>>,
    /// The run that the current attempt has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
    #[serde(skip_serializing_if = "Payload::is_null")]
    pub output: Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_reason: Option<SkipReason>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Attempts that ended, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    /// What it calls may not be called so often.
    RateLimit,
    /// Another node has taken over.
    Fallback,
    /// Its items run.
    Items,
    /// A run that it has started.
    Child {
        run_id: RunId,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub attempt: Attempt,
    pub outcome: AttemptOutcome,
    pub started_at: Option<Timestamp>,
    pub ended_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// The run that it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_run_id: Option<RunId>,
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
        let machine = plan.machine.as_ref().map(|_| RunMachine::default());
        // What a state invokes begins and ends with the state.
        let main = if machine.is_some() { &[] } else { &plan.nodes[..plan.main_count()] };
        let ready = main.iter().filter(|node| node.needs.is_empty()).map(|node| node.index.into()).collect();
        let mut state = Self {
            run_id,
            last_seq: event.seq,
            epoch: Epoch::default(),
            inputs: body.inputs.clone(),
            requester: event.actor.clone().unwrap_or_else(Actor::engine),
            parent: body.parent.clone(),
            scheduled: body.scheduled.clone(),
            origin: None,
            moved_to: None,
            created_at: event.at,
            started_at: None,
            ended_at: None,
            deadline_at: body.deadline_at,
            start_at: body.start_at,
            is_delayed: body.start_at.is_some_and(|start_at| start_at > event.at),
            group: body.group.clone(),
            place: Place::default(),
            turn_at: body.turn_at,
            has_begun: false,
            groups_above: body.groups_above.clone(),
            last_event_at: event.at,
            phase: Phase::Active,
            unsettled: main.len() as u32,
            steps,
            items: BTreeMap::new(),
            fans: BTreeMap::new(),
            ready,
            in_flight: BTreeSet::new(),
            timers: BTreeSet::new(),
            decided: BTreeSet::new(),
            listening: BTreeMap::new(),
            signals: BTreeMap::new(),
            paused_steps: BTreeSet::new(),
            children: BTreeMap::new(),
            acted: Vec::new(),
            must_compensate: false,
            compensation: None,
            deaths: 0,
            just_taken: false,
            output: Payload::null(),
            error: None,
            machine,
        };
        if let Some(origin) = &body.origin {
            state.take_over(plan, origin, event.at);
        }
        Ok(state)
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

    pub fn step(&self, key: impl Into<StepKey>) -> &Step {
        static NOT_BEGUN: LazyLock<Step> = LazyLock::new(Step::default);
        match key.into() {
            StepKey { node, item: None } => &self.steps[node.at()],
            StepKey { node, item: Some(item) } => {
                self.items.get(&node).and_then(|steps| steps.get(&item)).unwrap_or(&NOT_BEGUN)
            }
        }
    }

    fn step_mut(&mut self, key: StepKey) -> &mut Step {
        match key.item {
            None => &mut self.steps[key.node.at()],
            Some(item) => self.items.entry(key.node).or_default().entry(item).or_default(),
        }
    }

    /// Every step that there is something to know about: one per node, and those of items.
    pub fn all_steps(&self) -> impl Iterator<Item = (StepKey, &Step)> {
        let of_nodes = self.steps.iter().enumerate().map(|(at, step)| {
            let node = NodeIndex(u16::try_from(at).unwrap_or(u16::MAX));
            (StepKey::from(node), step)
        });
        let of_items = self.items.iter().flat_map(|(node, steps)| {
            steps.iter().map(|(item, step)| (StepKey { node: *node, item: Some(*item) }, step))
        });
        of_nodes.chain(of_items)
    }

    /// How many steps it holds: what storing it costs grows with that.
    pub fn size(&self) -> usize {
        self.steps.len() + self.items.values().map(BTreeMap::len).sum::<usize>()
    }

    /// The run's status. `held` says whether an engine has the run: the log alone cannot know.
    pub fn status(&self, held: bool) -> RunStatus {
        match self.phase {
            Phase::Completed => RunStatus::Completed,
            Phase::Failed => RunStatus::Failed,
            Phase::Canceled => RunStatus::Canceled,
            Phase::Canceling => RunStatus::Canceling,
            Phase::Compensating => RunStatus::Compensating,
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
            || (!self.is_terminal() && self.deadline().is_some_and(|deadline| deadline <= now))
    }

    /// Whether an engine would have something to do at once, timers aside.
    pub fn wants_engine(&self) -> bool {
        match self.phase {
            Phase::Active if self.is_delayed => false,
            Phase::Active if self.wants_place() => self.place == Place::Unasked,
            Phase::Active => {
                let (is_over, moves) = match &self.machine {
                    Some(machine) => (machine.state.is_done, machine.wants_engine()),
                    None => (self.unsettled == 0, false),
                };
                let ends = is_over && self.children.is_empty();
                moves || ends || self.owes_recall() || !self.ready.is_empty() || !self.decided.is_empty()
            }
            Phase::Compensating => {
                let is_over = self.compensation.as_ref().is_none_or(|it| it.unsettled == 0);
                let is_over = is_over && self.children.is_empty() || self.owes_recall();
                !self.ready.is_empty() || !self.decided.is_empty() || is_over
            }
            // Once its children were asked to stop, there is nothing to do before they have.
            Phase::Failing | Phase::Canceling => self.children.is_empty() || self.owes_recall(),
            Phase::Paused { .. } | Phase::Completed | Phase::Failed | Phase::Canceled => false,
        }
    }

    /// When time alone moves this run next. A paused run is moved by nothing but its deadline.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let timer = match self.phase {
            // Its status does not tell whether it waits for a time or for an engine: that is due at once.
            Phase::Compensating | Phase::Canceling if self.wants_engine() => Some(self.last_event_at),
            Phase::Active if self.is_delayed => self.start_at,
            Phase::Active => {
                let of_machine = self.machine.as_ref().and_then(RunMachine::wake_at);
                self.timers.first().map(|(at, _)| *at).into_iter().chain(of_machine).min()
            }
            Phase::Compensating => self.timers.first().map(|(at, _)| *at),
            Phase::Paused { .. } => None,
            _ => return None,
        };
        match (timer, self.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The time by which the run must have ended. Undoing what it did takes as long as it takes.
    fn deadline(&self) -> Option<Timestamp> {
        self.deadline_at.filter(|_| self.compensation.is_none())
    }

    /// Whether steps may begin.
    pub fn is_moving(&self) -> bool {
        matches!(self.phase, Phase::Active | Phase::Compensating)
    }

    /// Whether the run has come, or may still come, to this step by itself.
    pub fn is_in_play(&self, plan: &Plan, key: impl Into<StepKey>) -> bool {
        let key = key.into();
        match (plan.node(key).part, &self.compensation) {
            (Part::Main, compensation) => compensation.is_none(),
            (Part::Item { of }, None) => self.is_item_in_play(of, key),
            (Part::Fallback { of }, None) => self.has_fallen_back(key.beside(of)),
            (Part::Compensation { .. }, Some(compensation)) => compensation.steps.contains(&key),
            (Part::Fallback { .. } | Part::Item { .. }, Some(_)) | (Part::Compensation { .. }, None) => false,
        }
    }

    /// Whether there is anything to tell about this step.
    pub fn is_shown(&self, plan: &Plan, key: StepKey) -> bool {
        plan.node(key).part == Part::Main
            || self.step(key).status != StepStatus::Pending
            || self.is_in_play(plan, key)
    }

    /// Whether another node has taken over.
    pub(crate) fn has_fallen_back(&self, key: impl Into<StepKey>) -> bool {
        self.step(key).wait.as_ref().is_some_and(|wait| wait.on == WaitReason::Fallback)
    }

    /// For serial runs: index of the first step that has not settled, or the number of steps.
    pub fn current_step_index(&self, plan: &Plan) -> usize {
        let main = plan.main_count();
        self.steps[..main].iter().position(|step| !step.status.is_settled()).unwrap_or(main)
    }

    /// The key that the current attempt of a step sends along with its effect.
    pub fn idempotency_key(&self, plan: &Plan, key: impl Into<StepKey>) -> String {
        let key = key.into();
        idempotency_key(self.run_id, &plan.node(key).id, key.item, self.step(key).key_attempt)
    }

    /// Payloads that lie in the blob store and that the rules or expressions of the plan may read: inputs,
    /// outputs, signals that no step has taken yet, and forms that become the output of a gate.
    pub fn missing_payloads(&mut self, plan: &Plan) -> impl Iterator<Item = &mut Payload> {
        let steps = self.steps.iter_mut().zip(&plan.nodes).flat_map(|(step, node)| {
            let waits = step.status == StepStatus::Waiting;
            let output = node.output_is_read.then_some(&mut step.output);
            output
                .into_iter()
                .chain(step.gate.as_deref_mut().filter(|_| waits).into_iter().flat_map(Gate::forms))
        });
        let signals = self.signals.values_mut().flatten();
        let inbox = self.machine.iter_mut().flat_map(RunMachine::payloads);
        let of_items = fan::payloads(plan, &mut self.fans, &mut self.items);
        let all = std::iter::once(&mut self.inputs).chain(steps).chain(of_items).chain(signals).chain(inbox);
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
