//! What a machine does next: what waits in its inbox, due timers, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Tick;
use crate::event::{EventEmitted, MachineCause, MachineFailed, MachineTransitioned, StepCanceled};
use crate::machine::{self, MachinePlan, Occurrence, Performed, Reaction, TimerIndex};
use crate::plan::Part;
use crate::state::{InboundKind, Phase, RunMachine};
use crate::workflow::expression::{Context, Scene};
use crate::{NodeIndex, Payload, StepError, StepKey, StepStatus};

impl Tick<'_> {
    /// Lets the machine take what has happened to it, one after the other, each to its end.
    pub(super) fn move_machine(&mut self) {
        let Some(plan) = &self.plan.machine else { return };
        while matches!(self.state.phase, Phase::Active)
            && let Some((cause, occurrence)) = self.next_for_machine()
        {
            match self.react(plan, occurrence.as_ref()) {
                Ok(reaction) => {
                    let name = occurrence.map_or_else(|| "start".to_owned(), |it| it.name(plan));
                    self.record(plan, cause, name, reaction);
                }
                Err(error) => self.emit_run(MachineFailed { error }),
            }
        }
    }

    /// What the machine reacts to next; no occurrence at its start.
    fn next_for_machine(&self) -> Option<(MachineCause, Option<Occurrence>)> {
        let machine = self.state.machine.as_ref().filter(|machine| !machine.state.is_done)?;
        if !machine.has_started {
            return Some((MachineCause::Start, None));
        }
        let timer = machine.timers.first().filter(|(at, _, _)| *at <= self.now);
        let inbound = machine.inbox.front();
        match (timer, inbound) {
            // An engine that comes late finds both: what happened first goes first.
            (Some((at, _, timer)), inbound) if inbound.is_none_or(|inbound| *at <= inbound.at) => {
                Some((MachineCause::Timer(*timer), Some(Occurrence::Timer(*timer))))
            }
            (_, Some(inbound)) => Some((MachineCause::Inbox, Some(self.occurrence(&inbound.kind)))),
            (_, None) => None,
        }
    }

    fn occurrence(&self, inbound: &InboundKind) -> Occurrence {
        let value = |payload: &Payload| payload.value().map(|value| (**value).clone()).unwrap_or_default();
        match inbound {
            InboundKind::Event { name, payload } => {
                Occurrence::Event { name: name.clone(), payload: value(payload) }
            }
            InboundKind::Invoked { node } => {
                let step = self.state.step(*node);
                match &step.error {
                    Some(error) if step.status == StepStatus::Failed => {
                        Occurrence::InvocationFailed { node: *node, error: error.clone() }
                    }
                    _ => Occurrence::InvocationDone { node: *node, output: value(&step.output) },
                }
            }
        }
    }

    fn react(&self, plan: &MachinePlan, occurrence: Option<&Occurrence>) -> Result<Reaction, StepError> {
        let surroundings = Context::new(self.plan, self.state);
        let (Some(machine), Some(occurrence)) = (&self.state.machine, occurrence) else {
            return machine::start(plan, surroundings);
        };
        let reaction = machine::react(plan, &machine.state, occurrence, surroundings)?;
        match occurrence {
            // Its rule was there when it failed; since then something has changed what its guard sees.
            Occurrence::InvocationFailed { error, node }
                if reaction.transitions.is_empty()
                    && machine.state.configuration.contains(&plan.invocation(*node).state) =>
            {
                Err(error.clone())
            }
            _ => Ok(reaction),
        }
    }

    fn record(&mut self, plan: &MachinePlan, cause: MachineCause, name: String, reaction: Reaction) {
        let event = self.transitioned(plan, cause, name, &reaction);
        for performed in reaction.actions {
            if let Performed::Emitted { kind, data } = performed {
                self.emit_run(EventEmitted { kind, data: Payload::new(data) });
            }
        }
        for node in reaction.stopped {
            if !self.is_idle(node) {
                // Who has fallen back ends as its fallback does.
                let fallback = self.plan.node(node).fallback.filter(|_| self.state.has_fallen_back(node));
                let ends = StepKey::from(fallback.unwrap_or(node));
                let attempt = self.state.open_attempt(self.plan, ends);
                self.emit_step(ends, attempt, StepCanceled {});
            }
        }
        self.emit_run(event);
    }

    fn transitioned(
        &self,
        plan: &MachinePlan,
        cause: MachineCause,
        event: String,
        reaction: &Reaction,
    ) -> MachineTransitioned {
        let after = &reaction.state;
        let before = self.state.machine.as_ref().map(|machine| &machine.state);
        let is_new = |key: &str, value: &Value| before.and_then(|it| it.context.get(key)) != Some(value);
        let context = after.context.as_object().into_iter().flatten();
        let assigned = context.filter(|(key, value)| is_new(key, value));
        let history = after
            .history
            .iter()
            .filter(|(state, past)| before.and_then(|before| before.history.get(state)) != Some(*past));
        let due = |timer: &TimerIndex| (self.now.plus(plan.timer(*timer).delay), *timer);
        MachineTransitioned {
            event,
            cause,
            is_taken: cause == MachineCause::Start || !reaction.transitions.is_empty(),
            configuration: after.configuration.clone(),
            actions: reaction.actions.iter().map(spoken).collect(),
            assigned: assigned.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>(),
            history: history.map(|(state, past)| (*state, past.clone())).collect::<BTreeMap<_, _>>(),
            timers: reaction.set_timers.iter().map(due).collect(),
            canceled_timers: reaction.canceled_timers.clone(),
            invoked: reaction.started.clone(),
            is_done: after.is_done,
            output: after.output.clone(),
        }
    }

    /// Whether this is a node of a state that has not invoked it, or no longer.
    pub(super) fn is_idle(&self, node: NodeIndex) -> bool {
        let status = self.state.step(node).status;
        let has_ended = status.is_settled()
            || (status == StepStatus::Pending && !self.state.ready.contains(&node.into()));
        self.plan.machine.is_some() && self.plan.node(node).part == Part::Main && has_ended
    }

    /// Whether the state that invoked this node has a rule that takes its failure.
    pub(super) fn machine_takes(&self, node: NodeIndex, error: &StepError) -> bool {
        let (Some(plan), Some(machine)) = (&self.plan.machine, &self.state.machine) else { return false };
        if self.plan.node(node).part != Part::Main {
            return false;
        }
        let occurrence = Occurrence::InvocationFailed { node, error: error.clone() };
        let context = Context::new(self.plan, self.state);
        // A guard that breaks is met again, and told, when the machine takes it.
        machine::takes(plan, &machine.state, &occurrence, context).unwrap_or(true)
    }

    /// The run's output, once the machine has ended.
    pub(super) fn machine_output(&self, machine: &RunMachine) -> Result<Payload, StepError> {
        let Some(template) = &self.plan.outputs else { return Ok(machine.state.output.clone()) };
        let output = machine.state.output.value().map(|value| (**value).clone());
        let event = Arc::new(json!({ "output": output }));
        let scene = Scene { context: &machine.state.context, event: Some(&event) };
        template.render(&Context::new(self.plan, self.state).with_scene(scene)).map(Payload::new)
    }
}

/// An action as people read it.
fn spoken(performed: &Performed) -> String {
    match performed {
        Performed::Assigned(members) => {
            let names: Vec<&str> = members.keys().map(String::as_str).collect();
            format!("assign {}", names.join(", "))
        }
        Performed::Emitted { kind, .. } => format!("emit {kind}"),
        Performed::Raised { event, .. } => format!("raise {event}"),
    }
}
