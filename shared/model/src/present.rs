//! Runs and events as clients see them: names instead of indices, derived keys filled in.

pub mod machine;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::event::{Artifact, CompensationOrder, CompensationOutcome, Ending, Event, EventBody};
use crate::plan::{Part, Plan, WorkflowKind};
use crate::state::{AttemptRecord, Step, WaitReason, idempotency_key};
use crate::{Attempt, Digest, NodeIndex, Payload, RunId, RunState, StepError, StepStatus, Timestamp};

/// `{"type": "step.started", "node": …, "attempt": …, "actor": …, …data}`.
pub fn event_json(plan: &Plan, run_id: RunId, event: &Event) -> Value {
    let mut map = Map::new();
    map.insert("type".into(), event_name(plan, event).into());
    let node = event.node.map(|index| plan.node(index).id.as_str());
    if let Some(node) = node {
        map.insert("node".into(), node.into());
    }
    if let Some(Part::Compensation { of }) = event.node.map(|index| plan.node(index).part) {
        map.insert("compensates".into(), plan.node(of).id.as_str().into());
    }
    if let Some(item) = event.item {
        map.insert("item".into(), item.into());
    }
    if let Some(attempt) = event.attempt {
        map.insert("attempt".into(), attempt.into());
    }
    if let Some(epoch) = event.epoch {
        map.insert("epoch".into(), epoch.0.into());
    }
    let actor = match &event.actor {
        Some(actor) => serde_json::to_value(actor).expect("actors are plain data"),
        None => json!({"kind": "system", "id": "engine"}),
    };
    map.insert("actor".into(), actor);
    if let (EventBody::StepStarted(body), Some(node), Some(attempt)) = (&event.body, node, event.attempt) {
        let key = idempotency_key(run_id, node, event.item, body.key_attempt.unwrap_or(attempt));
        map.insert("idempotency_key".into(), key.into());
    }
    if let EventBody::CompensationPlanned(body) = &event.body {
        let names: Vec<&str> = body.steps.iter().map(|node| plan.node(*node).id.as_str()).collect();
        map.insert("steps".into(), names.into());
    }
    let data = match &event.body {
        EventBody::MachineTransitioned(body) => Value::Object(machine::transitioned_json(plan, body)),
        body => body.data_value(),
    };
    if let Value::Object(data) = data {
        for (key, value) in data {
            // A body's own `type` (an emitted event's) must not hide the event's.
            map.entry(if key == "type" { "event_type".to_owned() } else { key }).or_insert(value);
        }
    }
    Value::Object(map)
}

/// `step.started`; of a step that undoes another one `compensation.started`, although it is the same event.
fn event_name(plan: &Plan, event: &Event) -> Cow<'static, str> {
    let name = event.body.name();
    let undoes = event.node.is_some_and(|node| matches!(plan.node(node).part, Part::Compensation { .. }));
    match name.strip_prefix("step.").filter(|_| undoes) {
        Some(verb) => format!("{COMPENSATION_PREFIX}{verb}").into(),
        None => name.into(),
    }
}

const COMPENSATION_PREFIX: &str = "compensation.";

/// Every name that an event may have when it is shown.
pub fn event_names() -> Vec<String> {
    let stored = EventBody::KINDS.iter().map(|(_, name)| (*name).to_owned());
    let undoing = EventBody::KINDS.iter().filter_map(|(_, name)| name.strip_prefix("step."));
    stored.chain(undoing.map(|verb| format!("{COMPENSATION_PREFIX}{verb}"))).collect()
}

/// The envelope that streams and pages carry.
pub fn envelope(plan: &Plan, run_id: RunId, event: &Event) -> Value {
    json!({
        "type": "run.event",
        "run_id": run_id,
        "seq": event.seq,
        "at": event.at,
        "event": event_json(plan, run_id, event),
    })
}

/// A step as `GET /v1/workflow-runs/{id}` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct StepView<'a> {
    pub node: &'a str,
    pub kind: &'a str,
    /// The node that this one undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensates: Option<&'a str>,
    /// The node that has failed, and that this one does in another way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<&'a str>,
    pub item: Option<u32>,
    pub status: StepStatus,
    pub attempt: Attempt,
    pub attempts: &'a [AttemptRecord],
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub output: &'a Payload,
    pub error: Option<&'a StepError>,
    pub waiting_on: Option<WaitingOnView<'a>>,
    pub artifacts: &'a [Artifact],
}

/// What a step waits for, and until when.
#[derive(Clone, Debug, Serialize)]
pub struct WaitingOnView<'a> {
    #[serde(flatten)]
    pub on: &'a WaitReason,
    pub until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView<'a>>,
}

/// An open gate.
#[derive(Clone, Debug, Serialize)]
pub struct GateView<'a> {
    pub attempt: Attempt,
    pub show: &'a Payload,
    pub digest: &'a Digest,
    pub requested_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub granted_by: Vec<&'a str>,
    pub min: u32,
    pub any_of: &'a [String],
}

/// Every step of a run, in the order of its definition; then those that an error or an undoing has called for.
pub fn step_views<'a>(plan: &'a Plan, state: &'a RunState) -> Vec<StepView<'a>> {
    let shown = plan.nodes.iter().zip(&state.steps).filter(|(node, _)| state.is_shown(plan, node.index));
    shown.map(|(node, step)| step_view(plan, node, step)).collect()
}

/// The undoing of a run, once it was planned.
#[derive(Clone, Debug, Serialize)]
pub struct CompensationView<'a> {
    pub after: Ending,
    pub order: CompensationOrder,
    /// Ids of the compensating steps, in the order in which they run.
    pub steps: Vec<&'a str>,
    /// Null until the run has ended.
    pub outcome: Option<CompensationOutcome>,
}

pub fn compensation_view<'a>(plan: &'a Plan, state: &RunState) -> Option<CompensationView<'a>> {
    let compensation = state.compensation.as_ref()?;
    Some(CompensationView {
        after: compensation.after,
        order: compensation.order,
        steps: compensation.steps.iter().map(|node| plan.node(*node).id.as_str()).collect(),
        outcome: state.compensation_outcome().filter(|_| state.is_terminal()),
    })
}

fn step_view<'a>(plan: &'a Plan, node: &'a crate::plan::Node, step: &'a Step) -> StepView<'a> {
    let id = |of: NodeIndex| Some(plan.node(of).id.as_str());
    let (compensates, replaces) = match node.part {
        Part::Main => (None, None),
        Part::Compensation { of } => (id(of), None),
        Part::Fallback { of } => (None, id(of)),
    };
    let gate = step.gate.as_ref().filter(|gate| gate.outcome.is_none()).map(|gate| {
        let spec = node.spec_of(gate.rule.as_deref());
        GateView {
            attempt: gate.attempt,
            show: &gate.show,
            digest: &gate.digest,
            requested_at: gate.requested_at,
            expires_at: gate.expires_at,
            granted_by: gate.grants.iter().map(|grant| grant.by.id()).collect(),
            min: spec.map_or(1, |spec| spec.min),
            any_of: spec.map_or(&[], |spec| spec.any_of.as_slice()),
        }
    });
    StepView {
        node: &node.id,
        kind: &node.kind,
        compensates,
        replaces,
        item: None,
        status: step.status,
        attempt: step.attempt,
        attempts: &step.attempts,
        started_at: step.started_at,
        ended_at: step.ended_at,
        output: &step.output,
        error: step.error.as_ref(),
        waiting_on: step.wait.as_ref().map(|wait| WaitingOnView { on: &wait.on, until: wait.until, gate }),
        artifacts: &step.artifacts,
    }
}

/// The index of the current step, for serial runs only.
pub fn current_step_index(plan: &Plan, state: &RunState) -> Option<usize> {
    (plan.kind == WorkflowKind::Steps).then(|| state.current_step_index(plan))
}
