//! The machine inside a run: what it is, and what waits to be taken by it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RunState;
use crate::event::{MachineCause, MachineTransitioned};
use crate::machine::{MachineState, TimerIndex};
use crate::{EventSeq, NodeIndex, Payload, Plan, Timestamp};

/// A machine, folded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunMachine {
    pub state: MachineState,
    pub has_started: bool,
    /// When each is due, and by which event it was set: of two at the same instant the older one goes first.
    pub timers: BTreeSet<(Timestamp, EventSeq, TimerIndex)>,
    /// What has happened to it and was not taken yet, oldest first.
    pub inbox: VecDeque<Inbound>,
}

/// Something that has happened to a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: InboundKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InboundKind {
    /// It was sent.
    Event { name: String, payload: Payload },
    /// What a state invoked has ended; its step says how.
    Invoked { node: NodeIndex },
}

impl RunMachine {
    pub(super) fn wants_engine(&self) -> bool {
        !self.has_started || !self.inbox.is_empty() && !self.state.is_done
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _, _)| *at)
    }

    pub(super) fn payloads(&mut self) -> impl Iterator<Item = &mut Payload> {
        self.inbox.iter_mut().filter_map(|inbound| match &mut inbound.kind {
            InboundKind::Event { payload, .. } => Some(payload),
            InboundKind::Invoked { .. } => None,
        })
    }

    pub(super) fn end(&mut self) {
        self.timers.clear();
        self.inbox.clear();
    }
}

/// Whether every state, timer and node that a transition speaks of belongs to the plan. A log that was damaged may say
/// anything.
pub(super) fn names_what_is_there(plan: &Plan, body: &MachineTransitioned) -> bool {
    let Some(machine) = &plan.machine else { return false };
    let in_history = body.history.iter().flat_map(|(state, stands_for)| stands_for.iter().chain([state]));
    let mut states = body.configuration.iter().chain(in_history);
    let mut timers = body.timers.iter().map(|(_, timer)| timer);
    states.all(|state| state.at() < machine.states.len())
        && timers.all(|timer| timer.at() < machine.timers.len())
        && body.invoked.iter().all(|node| node.at() < plan.nodes.len())
}

impl RunState {
    /// Whether a signal is the machine's own, and not that of a step that waits for one.
    pub(super) fn is_for_machine(&self, plan: &Plan, name: &str) -> bool {
        let is_known = plan.machine.as_ref().is_some_and(|machine| machine.events.contains_key(name));
        is_known && !self.listening.contains_key(name)
    }

    /// Lays something into the machine's inbox, if there is a machine.
    pub(super) fn bring(&mut self, at: Timestamp, kind: InboundKind) {
        if let Some(machine) = &mut self.machine {
            machine.inbox.push_back(Inbound { at, kind });
        }
    }

    pub(super) fn apply_transition(&mut self, plan: &Plan, seq: EventSeq, body: &MachineTransitioned) {
        let Some(machine) = &mut self.machine else { return };
        match body.cause {
            MachineCause::Start => machine.has_started = true,
            MachineCause::Inbox => drop(machine.inbox.pop_front()),
            MachineCause::Timer(fired) => machine.timers.retain(|(_, _, timer)| *timer != fired),
        }
        machine.timers.retain(|(_, _, timer)| !body.canceled_timers.contains(timer));
        machine.timers.extend(body.timers.iter().map(|(at, timer)| (*at, seq, *timer)));
        let state = &mut machine.state;
        state.configuration.clone_from(&body.configuration);
        state.history.extend(body.history.clone());
        assign(&mut state.context, &body.assigned);
        state.is_done = body.is_done;
        state.output = body.output.clone();
        for node in &body.invoked {
            self.invoke(plan, *node);
        }
    }

    /// A step that begins because its state was entered, perhaps not for the first time. Its attempts are
    /// counted on, so that each has an idempotency key of its own.
    fn invoke(&mut self, plan: &Plan, node: NodeIndex) {
        for begun in plan.node(node).fallback.into_iter().chain([node]) {
            self.steps[begun.at()].call_again();
        }
        self.ready.insert(node.into());
        self.unsettled += 1;
    }
}

/// Sets members of a machine's context.
pub(super) fn assign(context: &mut Arc<Value>, assigned: &Map<String, Value>) {
    let context = Arc::make_mut(context);
    if context.is_null() {
        *context = Value::Object(Map::new());
    }
    for (key, value) in assigned {
        context[key.as_str()] = value.clone();
    }
}
