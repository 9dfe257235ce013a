//! From one occurrence to rest: microstep by microstep.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{Action, MachinePlan, StateKind, TransitionIndex};
use super::select::Selection;
use super::{
    ACTIONS_MAX, CONTEXT_BYTES_MAX, MADE_BYTES_MAX, MICROSTEPS_MAX, MachineState, Occurrence, Performed,
    Reaction,
};
use crate::workflow::expression::{Context, Scene, Template, bytes_of};
use crate::{Payload, StateIndex, StepError};

/// Enters the machine. `surroundings` are what its expressions see beside context and event.
///
/// # Errors
/// `expression` or `limit.*` errors; nothing has happened then.
pub fn start(plan: &MachinePlan, surroundings: Context<'_>) -> Result<Reaction, StepError> {
    let context = plan.context.render(&surroundings)?;
    let state = MachineState { context: Arc::new(context), ..MachineState::default() };
    let mut run = Run::new(plan, surroundings, state, json!({ "type": "start" }))?;
    run.enter(plan.initial_set())?;
    run.settle()?;
    Ok(run.reaction)
}

/// What follows from `occurrence`. A machine that nothing in it concerns stays as it is.
///
/// # Errors
/// `expression` or `limit.*` errors; nothing has happened then.
pub fn react(
    plan: &MachinePlan,
    state: &MachineState,
    occurrence: &Occurrence,
    surroundings: Context<'_>,
) -> Result<Reaction, StepError> {
    let mut run = Run::new(plan, surroundings, state.clone(), occurrence.to_json(plan))?;
    if !state.is_done {
        let enabled = run.selection().on(occurrence)?;
        run.microstep(&enabled)?;
        run.settle()?;
    }
    Ok(run.reaction)
}

/// Whether something in the machine would take `occurrence` now.
///
/// # Errors
/// What the guards fail with.
pub fn takes(
    plan: &MachinePlan,
    state: &MachineState,
    occurrence: &Occurrence,
    surroundings: Context<'_>,
) -> Result<bool, StepError> {
    let event = Arc::new(occurrence.to_json(plan));
    let context = surroundings.with_scene(Scene { context: &state.context, event: Some(&event) });
    Ok(!Selection { plan, state, context }.on(occurrence)?.is_empty())
}

/// One reaction in the making.
struct Run<'a> {
    plan: &'a MachinePlan,
    surroundings: Context<'a>,
    reaction: Reaction,
    /// What expressions see as `event`.
    event: Arc<Value>,
    /// What the machine has raised itself and not yet taken.
    raised: VecDeque<Occurrence>,
    context_bytes: usize,
    made_bytes: usize,
    /// The present microstep has changed something: without, looking again would find the same.
    is_changed: bool,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a MachinePlan,
        surroundings: Context<'a>,
        state: MachineState,
        event: Value,
    ) -> Result<Self, StepError> {
        let context_bytes = bytes_of(&state.context);
        check_bytes(context_bytes)?;
        Ok(Self {
            plan,
            surroundings,
            reaction: Reaction {
                state,
                transitions: Vec::new(),
                actions: Vec::new(),
                set_timers: Vec::new(),
                canceled_timers: Vec::new(),
                started: Vec::new(),
                stopped: Vec::new(),
            },
            event: Arc::new(event),
            raised: VecDeque::new(),
            context_bytes,
            made_bytes: 0,
            is_changed: false,
        })
    }

    /// First what is always so, then what the machine has raised itself, until there is neither.
    fn settle(&mut self) -> Result<(), StepError> {
        let (mut microsteps, mut may_find_more) = (0, true);
        while !self.reaction.state.is_done {
            microsteps += 1;
            if microsteps > MICROSTEPS_MAX {
                let detail = format!(
                    "the machine does not come to rest: {MICROSTEPS_MAX} steps follow from one event"
                );
                return Err(StepError::new("limit.microsteps", detail));
            }
            let eventless = if may_find_more { self.selection().eventless()? } else { Vec::new() };
            if !eventless.is_empty() {
                self.microstep(&eventless)?;
                may_find_more = self.is_changed;
            } else if let Some(next) = self.raised.pop_front() {
                self.event = Arc::new(next.to_json(self.plan));
                let enabled = self.selection().on(&next)?;
                self.microstep(&enabled)?;
                may_find_more = true;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn selection(&self) -> Selection<'_> {
        Selection { plan: self.plan, state: &self.reaction.state, context: self.context() }
    }

    fn context(&self) -> Context<'_> {
        self.surroundings
            .with_scene(Scene { context: &self.reaction.state.context, event: Some(&self.event) })
    }

    fn microstep(&mut self, taken: &[TransitionIndex]) -> Result<(), StepError> {
        self.is_changed = false;
        let before = self.reaction.state.configuration.clone();
        self.reaction.transitions.extend(taken);
        let history = &self.reaction.state.history;
        let domains: Vec<_> =
            taken.iter().map(|index| self.plan.domain(self.plan.transition(*index), history)).collect();
        self.exit(taken)?;
        for index in taken {
            self.perform(&self.plan.transition(*index).actions)?;
        }
        // What was left is remembered by now, and history may lead back to it.
        let mut entered = self.plan.entry_set(taken, &domains, &self.reaction.state.history);
        // History may lead to where one is: what was not left is not entered again.
        entered.retain(|state| !self.reaction.state.configuration.contains(state));
        self.enter(entered)?;
        self.is_changed |= before != self.reaction.state.configuration;
        Ok(())
    }

    /// Leaves states, the innermost first.
    fn exit(&mut self, taken: &[TransitionIndex]) -> Result<(), StepError> {
        let state = &self.reaction.state;
        let ranges = taken
            .iter()
            .filter_map(|index| self.plan.exit_range(self.plan.transition(*index), &state.history));
        let left: BTreeSet<StateIndex> =
            ranges.flat_map(|range| state.configuration.range(range)).copied().collect();
        for index in &left {
            self.remember(*index);
        }
        for index in left.into_iter().rev() {
            self.perform(&self.plan.state(index).exit)?;
            self.stop_what_belongs_to(index);
            self.reaction.state.configuration.remove(&index);
        }
        Ok(())
    }

    /// For the history states of a state that is being left.
    fn remember(&mut self, left: StateIndex) {
        let plan = self.plan;
        for child in &plan.state(left).children {
            let StateKind::History { is_deep, .. } = plan.state(*child).kind else { continue };
            let active = self.reaction.state.configuration.range(left..=plan.state(left).last);
            let remembered = active.copied().filter(|state| match is_deep {
                true => plan.state(*state).is_leaf(),
                false => plan.state(*state).parent == Some(left),
            });
            let remembered = remembered.collect();
            self.is_changed = true;
            self.reaction.state.history.insert(*child, remembered);
        }
    }

    /// Enters states, parents before children.
    fn enter(&mut self, states: BTreeSet<StateIndex>) -> Result<(), StepError> {
        let mut completed = BTreeSet::new();
        for index in states {
            self.reaction.state.configuration.insert(index);
            let state = self.plan.state(index);
            self.perform(&state.entry)?;
            self.reaction.set_timers.extend(&state.timers);
            self.reaction.started.extend(&state.invocations);
            self.is_changed |= !state.invocations.is_empty();
            if state.kind == StateKind::Final {
                self.finish(index, &mut completed)?;
            }
        }
        if self.reaction.state.is_done {
            self.exit_for_good()?;
        }
        Ok(())
    }

    /// A final state ends its parent, and with it the parallel states whose last region that was.
    fn finish(&mut self, index: StateIndex, completed: &mut BTreeSet<StateIndex>) -> Result<(), StepError> {
        let output = match &self.plan.state(index).output {
            Some(template) => self.make(template)?,
            None => Value::Null,
        };
        let Some(parent) = self.plan.state(index).parent else { return Ok(()) };
        if parent == StateIndex::ROOT {
            self.reaction.state.output = Payload::new(output);
            self.reaction.state.is_done = true;
            return Ok(());
        }
        self.raised.push_back(Occurrence::Done { state: parent, output });
        for ancestor in self.plan.ancestors(parent) {
            let is_over = self.plan.state(ancestor).kind == StateKind::Parallel
                && self.plan.regions(ancestor).all(|region| self.is_in_final(region))
                && completed.insert(ancestor);
            if !is_over {
                return Ok(());
            }
            self.raised.push_back(Occurrence::Done { state: ancestor, output: Value::Null });
        }
        Ok(())
    }

    fn is_in_final(&self, state: StateIndex) -> bool {
        let plan = self.plan;
        match plan.state(state).kind {
            StateKind::Compound { .. } => plan.state(state).children.iter().any(|child| {
                plan.state(*child).kind == StateKind::Final
                    && self.reaction.state.configuration.contains(child)
            }),
            StateKind::Parallel => plan.regions(state).all(|region| self.is_in_final(region)),
            StateKind::Atomic | StateKind::Final | StateKind::History { .. } => false,
        }
    }

    /// The machine has ended: what its states do on exit is done, and they stay as they were.
    fn exit_for_good(&mut self) -> Result<(), StepError> {
        for index in self.reaction.state.configuration.clone().into_iter().rev() {
            self.perform(&self.plan.state(index).exit)?;
            self.stop_what_belongs_to(index);
        }
        Ok(())
    }

    /// What began and ended in the same reaction has never been.
    fn stop_what_belongs_to(&mut self, index: StateIndex) {
        let state = self.plan.state(index);
        withdraw(&state.timers, &mut self.reaction.set_timers, &mut self.reaction.canceled_timers);
        withdraw(&state.invocations, &mut self.reaction.started, &mut self.reaction.stopped);
    }

    fn perform(&mut self, actions: &[Action]) -> Result<(), StepError> {
        for action in actions {
            if self.reaction.actions.len() >= ACTIONS_MAX {
                let detail = format!("more than {ACTIONS_MAX} actions follow from one event");
                return Err(StepError::new("limit.actions", detail));
            }
            let performed = match action {
                Action::Assign(template) => self.assign(template)?,
                Action::Emit { kind, data } => {
                    Performed::Emitted { kind: kind.clone(), data: self.make(data)? }
                }
                Action::Raise { event, payload } => {
                    let payload = self.make(payload)?;
                    self.raised
                        .push_back(Occurrence::Event { name: event.clone(), payload: payload.clone() });
                    Performed::Raised { event: event.clone(), payload }
                }
            };
            self.reaction.actions.push(performed);
        }
        Ok(())
    }

    fn assign(&mut self, template: &Template) -> Result<Performed, StepError> {
        let Value::Object(members) = self.make(template)? else {
            return Err(StepError::new("internal", "an assignment made something else than an object"));
        };
        self.is_changed = true;
        let context = Arc::make_mut(&mut self.reaction.state.context);
        for (key, value) in &members {
            let before = context.get(key).map_or(0, |before| key.len() + bytes_of(before));
            self.context_bytes = self.context_bytes.saturating_sub(before) + key.len() + bytes_of(value);
            context[key.as_str()] = value.clone();
        }
        check_bytes(self.context_bytes)?;
        Ok(Performed::Assigned(members))
    }

    fn make(&mut self, template: &Template) -> Result<Value, StepError> {
        let value = template.render(&self.context())?;
        self.made_bytes += bytes_of(&value);
        if self.made_bytes > MADE_BYTES_MAX {
            let detail = format!("the actions after one event made more than {MADE_BYTES_MAX} bytes");
            return Err(StepError::new("limit.actions", detail));
        }
        Ok(value)
    }
}

/// Whether a machine may remember this.
pub(crate) fn check_context(context: &Value) -> Result<(), StepError> {
    check_bytes(bytes_of(context))
}

fn check_bytes(bytes: usize) -> Result<(), StepError> {
    if bytes <= CONTEXT_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("the machine would remember about {bytes} bytes; {CONTEXT_BYTES_MAX} are allowed");
    Err(StepError::new("limit.context", detail))
}

fn withdraw<T: Copy + PartialEq>(own: &[T], begun: &mut Vec<T>, ended: &mut Vec<T>) {
    for one in own {
        match begun.iter().position(|it| it == one) {
            Some(at) => {
                begun.remove(at);
            }
            None => ended.push(*one),
        }
    }
}
