//! Properties that hold for random machines.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;
use windlass_model::decide::create;
use windlass_model::event::{EngineTaken, RunCreated};
use windlass_model::machine::{MachinePlan, Occurrence, Reaction, StateKind};
use windlass_model::{
    Actor, Command, Epoch, Event, Input, Outcome, Payload, Plan, RunId, RunState, RunStatus, SessionId,
    StateIndex, StepError, StepKey, Timestamp, decide, open_work,
};

use crate::drive::World;
use crate::generate::{self, EVENTS};

/// Exactly one child of each active compound state, all of each parallel one, and nothing without its parent.
fn is_legal(machine: &MachinePlan, active: &BTreeSet<StateIndex>) -> bool {
    active.contains(&StateIndex::ROOT)
        && active.iter().all(|index| {
            let state = machine.state(*index);
            let children = machine.regions(*index).filter(|child| active.contains(child)).count();
            let is_full = match state.kind {
                StateKind::Compound { .. } => children == 1,
                StateKind::Parallel => children == machine.regions(*index).count(),
                StateKind::Atomic | StateKind::Final => true,
                StateKind::History { .. } => false,
            };
            is_full && state.parent.is_none_or(|parent| active.contains(&parent))
        })
}

/// Timers and invocations belong to active states, each of which has all of its own that did not end.
fn is_kept(machine: &MachinePlan, world: &World<'_>) -> bool {
    let is_active = |state| world.state.configuration.contains(&state);
    world.timers.iter().all(|(_, _, timer)| is_active(machine.timer(*timer).state))
        && machine
            .invocations
            .iter()
            .zip(&world.plan.nodes)
            .all(|(invocation, node)| is_active(invocation.state) == world.invoked.contains(&node.index))
}

fn is_fine(world: &World<'_>, reaction: Result<Reaction, StepError>) -> Result<(), TestCaseError> {
    if let Err(error) = reaction {
        prop_assert!(error.kind.starts_with("limit."), "{:?}", error);
    }
    let machine = world.machine();
    prop_assert!(is_legal(machine, &world.state.configuration), "{:?}", world.configuration());
    prop_assert!(world.state.is_done || is_kept(machine, world), "{:?}", world.configuration());
    Ok(())
}

/// A run of a machine, with its log.
struct Run<'a> {
    plan: &'a Plan,
    state: RunState,
    log: Vec<Event>,
    now: Timestamp,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        let now = Timestamp(1_000_000);
        let (event, state) =
            create(plan, RunId(Uuid::from_u128(7)), RunCreated::default(), Actor::user("rita"), now);
        Self { plan, state, log: vec![event], now }
    }

    /// What the store does at a claim, and the engine after it.
    fn take(&mut self) {
        if self.state.is_terminal() {
            return;
        }
        let event = Event {
            seq: self.state.last_seq.next(),
            at: self.now,
            node: None,
            item: None,
            attempt: None,
            epoch: Some(Epoch(self.state.epoch.0 + 1)),
            actor: None,
            body: EngineTaken { session: SessionId(Uuid::nil()) }.into(),
        };
        self.state.apply(self.plan, &event).unwrap();
        self.log.push(event);
        self.tick(Input::Taken);
        self.tick(Input::Advance);
    }

    fn tick(&mut self, input: Input) {
        if let Ok(events) = decide(self.plan, &mut self.state, input, self.now) {
            self.log.extend(events);
        }
    }

    fn command(&mut self, command: Command) {
        self.tick(Input::Command { command, actor: Actor::user("ada") });
        self.tick(Input::Advance);
    }

    fn step(&mut self, what: usize, which: usize, n: u8) {
        let payload = Payload::from(json!({ "n": n }));
        let work: Vec<_> = open_work(&self.state).collect();
        match what {
            0 => self.take(),
            1 if !work.is_empty() => {
                let work = work[which % work.len()];
                let outcome = match n {
                    0 => {
                        Outcome::Failed { error: StepError::new("broken", "it broke"), artifacts: Vec::new() }
                    }
                    1 => Outcome::TimedOut { error: StepError::new("timeout", "too late") },
                    _ => Outcome::Succeeded {
                        output: Payload::from(json!({ "r": n })),
                        artifacts: Vec::new(),
                        emit: None,
                    },
                };
                self.tick(Input::Outcome { node: work.node, item: None, attempt: work.attempt, outcome });
                self.tick(Input::Advance);
            }
            2 => {
                self.now = self.now.plus(Duration::from_secs(1_000 * which as u64));
                self.tick(Input::Advance);
            }
            3 if !self.plan.nodes.is_empty() => {
                let node = self.plan.nodes[which % self.plan.nodes.len()].index;
                self.command(Command::Skip { node: node.into() });
            }
            4 => self.command(if n < 2 { Command::Pause } else { Command::Resume }),
            5 if which == 0 => self.command(Command::Cancel { reason: None }),
            5 => self.command(Command::Retry { node: None }),
            6 => self.command(Command::Signal { name: EVENTS[which % EVENTS.len()].into(), payload }),
            _ => self.command(Command::Signal { name: format!("G{which}"), payload }),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let folded = RunState::fold(self.plan, self.state.run_id, None, &self.log).unwrap();
        prop_assert_eq!(&folded, &self.state);
        let snapshot: RunState = serde_json::from_str(&serde_json::to_string(&folded).unwrap()).unwrap();
        prop_assert_eq!(&snapshot, &self.state);
        let (plan, machine) = (self.plan.machine.as_ref().unwrap(), self.state.machine.as_ref().unwrap());
        prop_assert!(!machine.has_started || is_legal(plan, &machine.state.configuration));
        let is_active = |key: &StepKey| {
            machine.state.configuration.contains(&plan.invocation(key.node).state) && !machine.state.is_done
        };
        prop_assert!(
            self.state.in_flight.iter().chain(&self.state.ready).all(is_active),
            "nobody invoked it"
        );
        if self.state.status(false) == RunStatus::Waiting {
            prop_assert!(machine.inbox.is_empty(), "an engine is needed");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_machine_stays_legal_and_comes_to_rest_or_to_a_named_limit(
        seed in any::<u64>(),
        script in prop::collection::vec((0..4usize, 0..40usize, 0..4u8), 0..20),
    ) {
        let Some((_, plan)) = generate::compiled(seed) else { return Ok(()) };
        let Ok((mut world, _)) = World::start(&plan) else { return Ok(()) };
        for (what, which, n) in script {
            let payload = json!({ "n": n });
            let reaction = match what {
                0 if !world.timers.is_empty() => world.fire_next(),
                1 if !world.invoked.is_empty() => {
                    let node = *world.invoked.iter().nth(which % world.invoked.len()).unwrap();
                    world.happens(&Occurrence::InvocationDone { node, output: json!({ "r": n }) })
                }
                2 => world.send(EVENTS[which % EVENTS.len()], payload),
                _ => world.send(&format!("G{which}"), payload),
            };
            is_fine(&world, reaction)?;
        }
    }

    /// On the log: through doors, engines that die, deeds that end in any way, and time.
    #[test]
    fn a_run_of_a_random_machine_is_the_fold_of_its_log_and_its_machine_stays_legal(
        seed in any::<u64>(),
        script in prop::collection::vec((0..8usize, 0..40usize, 0..4u8), 0..25),
    ) {
        let Some((_, plan)) = generate::compiled(seed) else { return Ok(()) };
        let mut run = Run::new(&plan);
        run.take();
        for (what, which, n) in script {
            run.step(what, which, n);
            run.check()?;
        }
    }

    #[test]
    fn the_same_machine_does_the_same_twice(seed in any::<u64>(), which in 0..40usize) {
        let Some((_, plan)) = generate::compiled(seed) else { return Ok(()) };
        let run = || {
            let (mut world, first) = World::start(&plan)?;
            Ok::<_, StepError>((first, world.send(&format!("G{which}"), json!({ "n": 1 }))?))
        };
        prop_assert_eq!(run(), run());
    }
}
