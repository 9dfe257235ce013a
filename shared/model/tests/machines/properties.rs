//! Properties that hold for random machines.

use proptest::prelude::*;
use serde_json::json;
use windlass_model::machine::{MachinePlan, Occurrence, Reaction, StateKind};
use windlass_model::{StateIndex, StepError};

use crate::drive::World;
use crate::generate::{self, EVENTS};

/// Exactly one child of each active compound state, all of each parallel one, and nothing without its parent.
fn is_legal(machine: &MachinePlan, world: &World<'_>) -> bool {
    let active = &world.state.configuration;
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
    prop_assert!(is_legal(machine, world), "{:?}", world.configuration());
    prop_assert!(world.state.is_done || is_kept(machine, world), "{:?}", world.configuration());
    Ok(())
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
