//! State machines as clients see them: paths of states instead of indices.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::event::{MachineCause, MachineTransitioned};
use crate::machine::{MachinePlan, TimerIndex};
use crate::{Payload, Plan, RunState, StateIndex, StepStatus, Timestamp};

/// A run's machine as `GET /v1/workflow-runs/{id}/machine` shows it.
#[derive(Debug, Serialize)]
pub struct MachineView<'a> {
    /// The active states that have nothing active in them, in the order of the definition.
    pub states: Vec<&'a str>,
    pub context: &'a Value,
    /// What an active state has a transition for. Its guard may still say no.
    pub events: Vec<AvailableEvent<'a>>,
    pub timers: Vec<RunningTimer<'a>>,
    /// Nodes that active states have invoked and that have not ended.
    pub invoked: Vec<&'a str>,
    pub is_done: bool,
    pub output: &'a Payload,
}

#[derive(Debug, Serialize)]
pub struct AvailableEvent<'a> {
    pub name: &'a str,
    /// What it must bring.
    pub schema: Option<&'a Value>,
}

#[derive(Debug, Serialize)]
pub struct RunningTimer<'a> {
    pub state: &'a str,
    pub at: Timestamp,
}

/// None for runs that are no machines.
pub fn machine_view<'a>(plan: &'a Plan, state: &'a RunState) -> Option<MachineView<'a>> {
    let (machine, now) = (plan.machine.as_ref()?, state.machine.as_ref()?);
    let active = &now.state.configuration;
    let names: BTreeSet<&str> =
        active.iter().flat_map(|index| machine.state(*index).on.keys()).map(String::as_str).collect();
    let goes_on = !state.is_terminal() && !now.state.is_done;
    let of_state = |timer: &TimerIndex| machine.state(machine.timer(*timer).state).path.as_str();
    let is_open = |status: StepStatus| !status.is_settled() && status != StepStatus::Pending;
    let is_invoked = |node: &&crate::plan::Node| {
        state.ready.contains(&node.index.into()) || is_open(state.step(node.index).status)
    };
    Some(MachineView {
        states: leaves(machine, active),
        context: &now.state.context,
        // Only what may be sent; the rest the machine raises itself.
        events: (machine.events.iter().filter(|(name, _)| goes_on && names.contains(name.as_str())))
            .map(|(name, schema)| AvailableEvent { name, schema: schema.as_ref().map(|it| it.source()) })
            .collect(),
        timers: now
            .timers
            .iter()
            .map(|(at, _, timer)| RunningTimer { state: of_state(timer), at: *at })
            .collect(),
        invoked: plan.nodes.iter().filter(is_invoked).map(|node| node.id.as_str()).collect(),
        is_done: now.state.is_done,
        output: &now.state.output,
    })
}

/// The data of `machine.transitioned`, with names.
pub(super) fn transitioned_json(plan: &Plan, body: &MachineTransitioned) -> Map<String, Value> {
    let Some(machine) = &plan.machine else { return Map::new() };
    let of_timer = |timer: &TimerIndex| machine.state(machine.timer(*timer).state).path.as_str();
    let cause = match body.cause {
        MachineCause::Start => "start",
        MachineCause::Inbox => "inbox",
        MachineCause::Timer(_) => "timer",
    };
    let timers: Vec<Value> =
        body.timers.iter().map(|(at, timer)| json!({ "state": of_timer(timer), "at": at })).collect();
    let canceled: Vec<&str> = body.canceled_timers.iter().map(of_timer).collect();
    let invoked: Vec<&str> = body.invoked.iter().map(|node| plan.node(*node).id.as_str()).collect();
    let mut map = Map::new();
    map.insert("event".into(), body.event.as_str().into());
    map.insert("cause".into(), cause.into());
    map.insert("is_taken".into(), body.is_taken.into());
    map.insert("states".into(), leaves(machine, &body.configuration).into());
    map.insert("actions".into(), body.actions.clone().into());
    map.insert("assigned".into(), Value::Object(body.assigned.clone()));
    map.insert("timers".into(), timers.into());
    map.insert("canceled_timers".into(), canceled.into());
    map.insert("invoked".into(), invoked.into());
    map.insert("is_done".into(), body.is_done.into());
    map.insert("output".into(), json!(body.output));
    map
}

fn leaves<'a>(machine: &'a MachinePlan, active: &BTreeSet<StateIndex>) -> Vec<&'a str> {
    let states = active.iter().map(|index| machine.state(*index));
    states.filter(|state| state.is_leaf()).map(|state| state.path.as_str()).collect()
}
