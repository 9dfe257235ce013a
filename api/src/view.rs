//! What clients see of runs: the shapes in JSON, and their description.

mod begin;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use windlass_model::event::Parent;
use windlass_model::present::{self, CompensationView, StepView};
use windlass_model::schedule::Scheduled;
use windlass_model::state::Phase;
use windlass_model::{
    Actor, EventSeq, PauseReason, Payload, Priority, RunId, RunState, RunStatus, StepError, StepStatus,
    Timestamp,
};
use windlass_store::{Labels, RunRow};

use crate::app::Folded;
pub(crate) use begin::{ConcurrencyView, OriginView, ScheduledView};

// ---- words that the model owns -----------------------------------------------------------------

pub(crate) fn words(all: impl IntoIterator<Item = impl Into<Value>>, nullable: bool) -> RefOr<Schema> {
    let mut values: Vec<Value> = all.into_iter().map(Into::into).collect();
    let mut types = vec![Type::String];
    if nullable {
        types.push(Type::Null);
        values.push(Value::Null);
    }
    let kind = if nullable { SchemaType::Array(types) } else { SchemaType::Type(Type::String) };
    ObjectBuilder::new().schema_type(kind).enum_values(Some(values)).build().into()
}

pub(crate) fn run_status() -> RefOr<Schema> {
    words(RunStatus::ALL.iter().map(|status| status.as_str()), false)
}

pub(crate) fn pause_reason() -> RefOr<Schema> {
    words(PauseReason::ALL.iter().map(|reason| reason.as_str()), true)
}

pub(crate) fn priority() -> RefOr<Schema> {
    words(Priority::ALL.iter().map(|priority| priority.as_str()), false)
}

fn outcome() -> RefOr<Schema> {
    words(["succeeded", "partial_failure", "failed", "canceled"], true)
}

fn step_status() -> RefOr<Schema> {
    use StepStatus::{Canceled, Failed, Paused, Pending, Running, Skipped, Succeeded, Waiting};
    let all = [Pending, Running, Waiting, Paused, Succeeded, Failed, Skipped, Canceled];
    words(all.into_iter().map(StepStatus::as_str), false)
}

// ---- runs --------------------------------------------------------------------------------------

/// A run in a list: narrow, without payloads.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunSummary)]
pub(crate) struct RunSummary {
    #[schema(value_type = String, format = Uuid)]
    pub id: RunId,
    pub workflow: String,
    /// Version of the published workflow; null when the definition came inline.
    #[schema(required)]
    pub version: Option<u32>,
    #[schema(schema_with = run_status)]
    pub status: RunStatus,
    #[schema(schema_with = pause_reason)]
    pub paused_reason: Option<PauseReason>,
    #[schema(schema_with = priority)]
    pub priority: Priority,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub ended_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub last_activity_at: Timestamp,
    /// The run whose step started this one.
    #[schema(value_type = Option<String>, format = Uuid, required)]
    pub parent_run_id: Option<RunId>,
    /// When time alone moves the run next.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub wake_at: Option<Timestamp>,
    /// Type of the error that ended the run.
    #[schema(required)]
    pub error_type: Option<String>,
}

impl From<RunRow> for RunSummary {
    fn from(row: RunRow) -> Self {
        Self {
            id: row.id,
            workflow: row.workflow,
            version: row.workflow_version,
            status: row.status,
            paused_reason: row.paused_reason,
            priority: row.priority,
            labels: row.labels,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            last_activity_at: row.last_activity_at,
            parent_run_id: row.parent,
            wake_at: row.wake_at,
            error_type: row.error,
        }
    }
}

/// A run with all its steps.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub(crate) struct RunView<'a> {
    #[schema(value_type = String, format = Uuid)]
    pub id: RunId,
    pub workflow: &'a str,
    /// Version of the published workflow; null when the definition came inline.
    #[schema(required)]
    pub version: Option<u32>,
    #[schema(schema_with = run_status)]
    pub status: RunStatus,
    #[schema(schema_with = pause_reason)]
    pub paused_reason: Option<PauseReason>,
    /// What to know about the pause.
    #[schema(required)]
    pub paused_message: Option<&'a str>,
    /// For `type: steps`: index of the first step that has not ended, or the number of steps. Else null.
    #[schema(required)]
    pub current_step_index: Option<usize>,
    #[schema(schema_with = priority)]
    pub priority: Priority,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: &'a Labels,
    #[schema(value_type = Value)]
    pub inputs: &'a Payload,
    #[schema(value_type = Value)]
    pub output: &'a Payload,
    /// How the run ended, in more detail than its status: a completed run whose failures were continued, or
    /// some of whose items have failed, is a `partial_failure`. Null before the end.
    #[schema(schema_with = outcome)]
    pub outcome: Option<&'static str>,
    #[schema(value_type = Option<StepErrorView>, required)]
    pub error: Option<&'a StepError>,
    /// The undoing of what the run did, once it was planned.
    #[schema(value_type = Option<Compensation>, required)]
    pub compensation: Option<CompensationView<'a>>,
    /// Its concurrency group, if its definition names one.
    #[schema(required)]
    pub concurrency: Option<ConcurrencyView<'a>>,
    /// The schedule that started it.
    #[schema(value_type = Option<ScheduledView>, required)]
    pub schedule: Option<&'a Scheduled>,
    /// The step of another run that started this one.
    #[schema(value_type = Option<ParentView>, required)]
    pub parent: Option<&'a Parent>,
    /// The run that this one goes on from.
    #[schema(required)]
    pub origin: Option<OriginView>,
    /// The run that has taken the place of this one.
    #[schema(value_type = Option<String>, format = Uuid, required)]
    pub moved_to: Option<RunId>,
    #[schema(value_type = Object)]
    pub created_by: &'a Actor,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub ended_at: Option<Timestamp>,
    /// When it starts, or has started, if that was put off.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub start_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub deadline_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub wake_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub last_activity_at: Timestamp,
    /// Seq of the last event.
    #[schema(value_type = u32)]
    pub seq: EventSeq,
    #[schema(value_type = Vec<Step>)]
    pub steps: Vec<StepView<'a>>,
}

/// A new run; with a wait, the whole run as it is afterwards.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the two answers to a create")]
pub(crate) enum CreatedRun<'a> {
    Summary(RunSummary),
    Run(RunView<'a>),
}

impl Folded {
    pub(crate) fn view(&self) -> RunView<'_> {
        let Self { row, plan, state } = self;
        RunView {
            id: row.id,
            workflow: &row.workflow,
            version: row.workflow_version,
            status: row.status,
            paused_reason: row.paused_reason,
            paused_message: match &state.phase {
                Phase::Paused { message, .. } => message.as_deref(),
                _ => None,
            },
            current_step_index: present::current_step_index(plan, state),
            priority: row.priority,
            labels: &row.labels,
            inputs: &state.inputs,
            output: &state.output,
            outcome: outcome_of(state),
            error: state.error.as_ref(),
            compensation: present::compensation_view(plan, state),
            concurrency: ConcurrencyView::of(state),
            schedule: state.scheduled.as_ref(),
            parent: state.parent.as_ref(),
            origin: state.origin.as_deref().map(OriginView::of),
            moved_to: state.moved_to,
            created_by: &state.requester,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            start_at: state.start_at,
            deadline_at: state.deadline_at,
            wake_at: row.wake_at,
            last_activity_at: row.last_activity_at,
            seq: state.last_seq,
            steps: present::step_views(plan, state, present::ITEMS_SHOWN_MAX),
        }
    }
}

fn outcome_of(state: &RunState) -> Option<&'static str> {
    match state.phase {
        // A failure that a machine has taken led it on; that is no part that is missing.
        Phase::Completed
            if state.machine.is_none()
                && (state.steps.iter().any(|step| step.status == StepStatus::Failed)
                    || state.fans.values().any(|fan| !fan.failed.is_empty())) =>
        {
            Some("partial_failure")
        }
        Phase::Completed => Some("succeeded"),
        Phase::Failed => Some("failed"),
        Phase::Canceled => Some("canceled"),
        Phase::Active | Phase::Paused { .. } | Phase::Failing | Phase::Canceling | Phase::Compensating => {
            None
        }
    }
}

/// What a command has done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipt {
    #[schema(value_type = String, format = Uuid)]
    pub run_id: RunId,
    /// The run's status with this command in its log. What follows from it is concluded by an engine.
    #[schema(schema_with = run_status)]
    pub status: RunStatus,
    #[schema(schema_with = pause_reason)]
    pub paused_reason: Option<PauseReason>,
    /// Seq of the event that records the command.
    #[schema(value_type = u32)]
    pub seq: EventSeq,
}

// ---- shapes of the model, described ------------------------------------------------------------

/// Describes [`StepView`]; a test holds real answers against it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct Step {
    /// Id of the node in the definition.
    node: String,
    /// Kind of the node: `http`, `script`, `approval`, …
    kind: String,
    /// The node that this one undoes.
    compensates: Option<String>,
    /// The node that has failed, and that this one does in another way.
    replaces: Option<String>,
    /// Index of the item inside a fan-out.
    #[schema(required)]
    item: Option<u32>,
    /// Its name, when the item is a branch.
    branch: Option<String>,
    #[schema(schema_with = step_status)]
    status: String,
    /// It ended in the run that this one goes on from, and is not done again.
    reused: Option<bool>,
    /// The current or last attempt; 0 before the first.
    attempt: u16,
    /// The run that the current or last attempt has started.
    #[schema(format = Uuid)]
    child_run_id: Option<String>,
    /// Attempts that have ended, oldest first.
    attempts: Vec<AttemptView>,
    #[schema(format = DateTime, required)]
    started_at: Option<String>,
    #[schema(format = DateTime, required)]
    ended_at: Option<String>,
    /// Any JSON; `{"$blob": {digest, size_bytes, preview}}` when it is larger than 64 KiB.
    output: Value,
    #[schema(required)]
    error: Option<StepErrorView>,
    #[schema(required)]
    waiting_on: Option<WaitingOn>,
    /// How the items of the step stand, once they were found.
    items: Option<Items>,
    artifacts: Vec<ArtifactView>,
}

#[derive(ToSchema)]
#[schema(as = Attempt)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct AttemptView {
    attempt: u16,
    #[schema(schema_with = attempt_outcome)]
    outcome: String,
    #[schema(format = DateTime, required)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    ended_at: String,
    error: Option<StepErrorView>,
    /// The run that it has started.
    #[schema(format = Uuid)]
    child_run_id: Option<String>,
}

const ATTEMPT_OUTCOMES: [&str; 5] = ["succeeded", "failed", "timed_out", "canceled", "lost"];

fn attempt_outcome() -> RefOr<Schema> {
    words(ATTEMPT_OUTCOMES, false)
}

/// Null while the attempt runs.
pub(crate) fn open_attempt_outcome() -> RefOr<Schema> {
    words(ATTEMPT_OUTCOMES, true)
}

#[derive(ToSchema)]
#[schema(as = StepError)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct StepErrorView {
    /// Dotted lower case: `timeout`, `http.503`, `script.exit_2`, …
    #[schema(rename = "type")]
    r#type: String,
    /// One sentence for people.
    message: String,
    details: Option<Value>,
}

/// Where a run was started that people did not start themselves.
#[derive(ToSchema)]
#[schema(as = Parent)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct ParentView {
    #[schema(format = Uuid)]
    run_id: String,
    /// Id of the node that called the workflow.
    node: String,
    /// Index of the item, inside a fan-out.
    item: Option<u32>,
    attempt: u16,
    /// How many runs stand above this one.
    depth: u32,
}

/// What is undone, and what became of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct Compensation {
    #[schema(schema_with = endings)]
    after: String,
    #[schema(schema_with = compensation_orders)]
    order: String,
    /// Ids of the compensating steps, in the order in which they run.
    steps: Vec<String>,
    /// Null until the run has ended; `incomplete` when a person skipped some of it.
    #[schema(schema_with = compensation_outcomes)]
    outcome: Option<String>,
}

fn endings() -> RefOr<Schema> {
    words(["failed", "canceled"], false)
}

fn compensation_orders() -> RefOr<Schema> {
    words(["reverse", "declared", "parallel"], false)
}

fn compensation_outcomes() -> RefOr<Schema> {
    words(["succeeded", "incomplete"], true)
}

/// Of a step that runs another node for each of its items. Of those, the view of a run has the first 100, and the
/// list of its steps has all.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct Items {
    count: u32,
    /// How many were begun and have not ended.
    open: u32,
    /// How many have failed.
    failed: u32,
    /// The first 100 of those.
    failed_items: Vec<FailedItem>,
    /// Once the step has succeeded.
    #[schema(schema_with = items_outcomes)]
    outcome: Option<String>,
}

fn items_outcomes() -> RefOr<Schema> {
    words(["succeeded", "partial_failure"], false)
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct FailedItem {
    index: u32,
    #[schema(required)]
    error: Option<StepErrorView>,
}

/// What a step waits for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct WaitingOn {
    #[schema(schema_with = wait_reasons)]
    on: String,
    /// Of the signal, when it waits for one.
    name: Option<String>,
    /// Of the run, when it waits for one.
    #[schema(format = Uuid)]
    run_id: Option<String>,
    #[schema(format = DateTime, required)]
    until: Option<String>,
    gate: Option<GateDescription>,
}

fn wait_reasons() -> RefOr<Schema> {
    words(["timer", "signal", "approval", "retry", "rate_limit", "fallback", "items", "child"], false)
}

/// An open gate: what to show to whom.
#[derive(ToSchema)]
#[schema(as = Gate)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct GateDescription {
    attempt: u16,
    show: Value,
    digest: String,
    #[schema(format = DateTime)]
    requested_at: String,
    #[schema(format = DateTime, required)]
    expires_at: Option<String>,
    granted_by: Vec<String>,
    min: u32,
    any_of: Vec<String>,
}

#[derive(ToSchema)]
#[schema(as = Artifact)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct ArtifactView {
    name: String,
    media_type: String,
    digest: String,
    size_bytes: u64,
    preview: String,
}

/// One entry of a run's log.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct Envelope {
    #[schema(schema_with = run_event)]
    r#type: String,
    #[schema(format = Uuid)]
    run_id: String,
    /// 1, 2, 3, … without gaps.
    seq: u32,
    #[schema(format = DateTime)]
    at: String,
    /// `type`, `actor`, for steps `node` and `attempt`, and what the type adds.
    event: EventView,
}

fn run_event() -> RefOr<Schema> {
    words(["run.event"], false)
}

#[derive(ToSchema)]
#[schema(as = Event)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct EventView {
    #[schema(schema_with = event_types)]
    r#type: String,
    node: Option<String>,
    /// Index of the item inside a fan-out.
    item: Option<u32>,
    attempt: Option<u16>,
    /// Fencing token of the engine that wrote it.
    epoch: Option<u32>,
    /// `{kind: user | system, id}`
    #[schema(value_type = Object)]
    actor: Value,
}

fn event_types() -> RefOr<Schema> {
    words(present::event_names(), false)
}

/// An example that a reader, or a machine that tries things, can use as it is.
pub(crate) fn example_spec() -> Value {
    json!({
        "version": 1,
        "name": "hello",
        "type": "steps",
        "inputs": { "type": "object", "properties": { "name": { "type": "string", "default": "world" } } },
        "steps": [
            { "id": "greet", "type": "transform", "output": { "text": "Hello, ${{ inputs.name }}!" } },
            { "id": "agree", "type": "approval", "show": "${{ nodes.greet.output.text }}" }
        ]
    })
}
