//! The rules: what follows from a command, an outcome, a passed time.
//!
//! The door only records what a person did, and a runner's return only records an outcome. What begins,
//! ends or times out because of it follows from `Input::Advance`, which only an engine asks for.

mod advance;
mod children;
mod commands;
mod compensate;
mod edit;
mod engine;
pub(crate) mod fan;
mod join;
mod machine;
mod rerun;
mod route;
mod slice;

pub use advance::IN_FLIGHT_MAX;
pub use commands::SIGNALS_BUFFERED_MAX;
pub use engine::{DEATHS_MAX, HOLDERS_NAMED_MAX};
pub use fan::{FAILED_LISTED_MAX, ITEMS_MAX};
pub use rerun::{Again, Continuation, continue_from};
pub use slice::{ITEMS_INLINE_MAX, SLICE_ITEMS, SLICES_PARALLEL_MAX};

use std::collections::BTreeMap;

use serde_json::Value;

use crate::concurrency::{self, Group};
use crate::error::shorten;
use crate::event::{Event, EventBody, RunCreated, RunRepaired};
use crate::workflow::expression::Context;
use crate::{
    Actor, Attempt, Epoch, EventSeq, Input, Plan, Rejection, RunId, RunState, StepError, StepKey, Timestamp,
};

/// Decides what follows from `input`, and takes it into `state` event by event.
///
/// The returned events are not true before they are committed: if that fails, throw `state` away.
///
/// # Errors
/// A [`Rejection`] of a command; `state` is unchanged then. Other inputs are never rejected: what comes
/// too late is ignored.
pub fn decide(
    plan: &Plan,
    state: &mut RunState,
    input: Input,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let (epoch, actor) = match &input {
        Input::Command { actor, .. } | Input::Repaired { actor, .. } => (None, Some(actor.kept())),
        _ => (Some(state.epoch), None),
    };
    // The log's times never run backwards, whatever a clock does.
    let now = now.max(state.last_event_at);
    let mut tick = Tick { plan, state, now, epoch, actor, events: Vec::new() };
    match input {
        Input::Command { command, actor } => tick.command(command, &actor)?,
        _ if tick.state.is_terminal() => {}
        Input::Taken => tick.taken(),
        Input::Outcome { node, item, attempt, outcome } => {
            tick.outcome(StepKey { node, item }, attempt, outcome);
        }
        Input::NoPlace { held_by } => tick.await_place(held_by),
        Input::Turn(turn) => tick.take_turn(turn),
        Input::ChildEnded { run_id, end } => tick.child_ended(run_id, end),
        Input::Advance => tick.advance(),
        Input::Drain => tick.drain(),
        Input::Repaired { found, .. } => tick.emit_run(RunRepaired { found }),
    }
    Ok(tick.events)
}

/// A run's first event, and the state it makes. The time that the definition allows counts from the start.
pub fn create(
    plan: &Plan,
    run_id: RunId,
    mut body: RunCreated,
    actor: Actor,
    now: Timestamp,
) -> (Event, RunState) {
    let from_plan = plan.timeout.map(|timeout| body.start_at.unwrap_or(now).plus(timeout));
    body.deadline_at = match (body.deadline_at, from_plan) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let event = Event {
        seq: EventSeq(1),
        at: now,
        node: None,
        item: None,
        attempt: None,
        epoch: None,
        actor: Some(actor.kept()),
        body: body.into(),
    };
    let state = RunState::created(plan, run_id, &event).expect("the event above is run.created");
    (event, state)
}

/// The group of a run that is about to be created; none when its definition names none, or when a run above it has a
/// place there already.
///
/// # Errors
/// When the expression fails, or does not give the name of a group.
pub fn group_of(
    plan: &Plan,
    run_id: RunId,
    body: &RunCreated,
    labels: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<Option<Group>, StepError> {
    let Some(spec) = &plan.concurrency else { return Ok(None) };
    let (_, state) = create(plan, run_id, body.clone(), Actor::engine(), now);
    let name = match spec.group.render(&Context::new(plan, &state).with_labels(labels))? {
        Value::String(name) => name,
        other => other.to_string(),
    };
    concurrency::check_name(&name).map_err(|sentence| StepError::new("expression", sentence))?;
    let is_above = body.groups_above.contains(&name);
    Ok((!is_above).then_some(Group { name, max: spec.max, on_conflict: spec.on_conflict }))
}

/// One decision in the making: every event is applied as it is emitted, so that later rules see it.
struct Tick<'a> {
    plan: &'a Plan,
    state: &'a mut RunState,
    now: Timestamp,
    epoch: Option<Epoch>,
    actor: Option<Actor>,
    events: Vec<Event>,
}

impl Tick<'_> {
    fn emit_run(&mut self, body: impl Into<EventBody>) {
        self.emit(None, None, body.into());
    }

    fn emit_step(&mut self, key: impl Into<StepKey>, attempt: Option<Attempt>, body: impl Into<EventBody>) {
        self.emit(Some(key.into()), attempt, body.into());
    }

    fn emit(&mut self, key: Option<StepKey>, attempt: Option<Attempt>, mut body: EventBody) {
        if let Some(message) = message_of(&mut body) {
            shorten(message);
        }
        let event = Event {
            seq: self.state.last_seq.next(),
            at: self.now,
            node: key.map(|key| key.node),
            item: key.and_then(|key| key.item),
            attempt,
            epoch: self.epoch,
            actor: self.actor.clone(),
            body,
        };
        self.state.apply(self.plan, &event).expect("a rule emits only what can follow");
        self.events.push(event);
    }
}

/// What an event says to people about something that went wrong.
fn message_of(body: &mut EventBody) -> Option<&mut String> {
    match body {
        EventBody::RunPaused(body) => body.message.as_mut(),
        EventBody::RunFailed(body) => Some(&mut body.error.message),
        EventBody::CompensationPlanned(body) => body.error.as_mut().map(|error| &mut error.message),
        EventBody::StepFailed(body) => Some(&mut body.error.message),
        EventBody::StepTimedOut(body) => Some(&mut body.error.message),
        EventBody::MachineFailed(body) => Some(&mut body.error.message),
        _ => None,
    }
}
