//! Runs and events as clients see them: names instead of indices, derived keys filled in.

pub mod machine;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::decide::FAILED_LISTED_MAX;
use crate::decide::fan::failed_items;
use crate::event::{Artifact, CompensationOrder, CompensationOutcome, Ending, Event, EventBody};
use crate::plan::{Node, Part, Plan, WorkflowKind};
use crate::state::{AttemptRecord, Step, WaitReason, idempotency_key};
use crate::{
    Attempt, Digest, NodeIndex, Payload, RunId, RunState, StepError, StepKey, StepStatus, Timestamp,
};

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
        let branch = event.node.and_then(|node| plan.branch(StepKey { node, item: Some(item) }));
        map.extend(branch.map(|branch| ("branch".to_owned(), branch.into())));
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
        let names: Vec<_> = body.steps.iter().map(|key| plan.label(*key)).collect();
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
    /// Its name, when the item is a branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<&'a str>,
    pub status: StepStatus,
    /// It ended in the run that this one goes on from.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    pub attempt: Attempt,
    /// The run that the current or last attempt has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_run_id: Option<RunId>,
    pub attempts: &'a [AttemptRecord],
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub output: &'a Payload,
    pub error: Option<&'a StepError>,
    pub waiting_on: Option<WaitingOnView<'a>>,
    /// Of a step that has items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemsView<'a>>,
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

/// How the items of a step stand.
#[derive(Clone, Debug, Serialize)]
pub struct ItemsView<'a> {
    pub count: u32,
    /// How many were begun and have not ended.
    pub open: u32,
    /// How many have failed.
    pub failed: usize,
    /// The first of those, and why.
    pub failed_items: Vec<FailedItem<'a>>,
    /// Once the step has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct FailedItem<'a> {
    pub index: u32,
    pub error: Option<&'a StepError>,
}

/// Items of one node that the view of a run shows; a list of steps has them all.
pub const ITEMS_SHOWN_MAX: usize = 100;

/// Every step of a run, in the order of its definition; then those that stand inside others, once something has
/// called for them: of each node at most so many items.
pub fn step_views<'a>(plan: &'a Plan, state: &'a RunState, items_max: usize) -> Vec<StepView<'a>> {
    let of_node = |node: &'a Node| {
        let itself = plan.fan_of(node.index).is_none().then(|| (node.index.into(), state.step(node.index)));
        let items = state.items.get(&node.index).into_iter().flatten().take(items_max);
        let items = items.map(|(item, step)| (StepKey { node: node.index, item: Some(*item) }, step));
        itself.into_iter().chain(items)
    };
    let shown = plan.nodes.iter().flat_map(of_node).filter(|(key, _)| state.is_shown(plan, *key));
    shown.map(|(key, step)| step_view(plan, state, key, step)).collect()
}

fn items_view<'a>(plan: &Plan, state: &'a RunState, of: NodeIndex) -> Option<ItemsView<'a>> {
    let fan = state.fans.get(&of)?;
    let failed_items = failed_items(plan, state, of).take(FAILED_LISTED_MAX);
    let outcome = if fan.failed.is_empty() { "succeeded" } else { "partial_failure" };
    Some(ItemsView {
        count: fan.count,
        open: fan.open,
        failed: fan.failed.len(),
        failed_items: failed_items.map(|(index, error)| FailedItem { index, error }).collect(),
        outcome: (state.step(of).status == StepStatus::Succeeded).then_some(outcome),
    })
}

/// The undoing of a run, once it was planned.
#[derive(Clone, Debug, Serialize)]
pub struct CompensationView<'a> {
    pub after: Ending,
    pub order: CompensationOrder,
    /// The compensating steps, in the order in which they run.
    pub steps: Vec<Cow<'a, str>>,
    /// Null until the run has ended.
    pub outcome: Option<CompensationOutcome>,
}

pub fn compensation_view<'a>(plan: &'a Plan, state: &RunState) -> Option<CompensationView<'a>> {
    let compensation = state.compensation.as_ref()?;
    Some(CompensationView {
        after: compensation.after,
        order: compensation.order,
        steps: compensation.steps.iter().map(|key| plan.label(*key)).collect(),
        outcome: state.compensation_outcome().filter(|_| state.is_terminal()),
    })
}

fn step_view<'a>(plan: &'a Plan, state: &'a RunState, key: StepKey, step: &'a Step) -> StepView<'a> {
    let node = plan.node(key);
    let id = |of: NodeIndex| Some(plan.node(of).id.as_str());
    let (compensates, replaces) = match node.part {
        Part::Main | Part::Item { .. } => (None, None),
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
        item: key.item,
        branch: plan.branch(key),
        status: step.status,
        reused: step.reused,
        attempt: step.attempt,
        child_run_id: step.child,
        attempts: &step.attempts,
        started_at: step.started_at,
        ended_at: step.ended_at,
        output: &step.output,
        error: step.error.as_ref(),
        waiting_on: step.wait.as_ref().map(|wait| WaitingOnView { on: &wait.on, until: wait.until, gate }),
        items: items_view(plan, state, key.node),
        artifacts: &step.artifacts,
    }
}

/// The index of the current step, for serial runs only.
pub fn current_step_index(plan: &Plan, state: &RunState) -> Option<usize> {
    (plan.kind == WorkflowKind::Steps).then(|| state.current_step_index(plan))
}
