//! Random runs that others go on from: beside them, or in their place.

use proptest::prelude::*;
use uuid::Uuid;
use windlass_model::decide::{Again, Continuation, continue_from};
use windlass_model::event::{OriginReason, RunCreated};
use windlass_model::{Command, NodeIndex, Plan, RunId, StepStatus};

use crate::common::{Run, plan};
use crate::properties::{
    COMPENSATIONS, Happening, NodeSpec, check_log, check_undoing, definition, end_of_child, happen,
    happening, heal, node_spec,
};

/// Whatever is in flight ends, and nothing new begins: unless the run does end of it.
fn come_to_rest(run: &mut Run<'_>) {
    drop(run.command(Command::Pause));
    while let Some(label) = run.in_flight().first() {
        run.succeed(label);
    }
    for run_id in run.state.children.clone().into_keys() {
        run.child_ends(run_id, end_of_child(0));
    }
}

/// The plan of the run that goes on, and what that one has from the run before; none when nobody may go on from that.
fn goes_on(run: &mut Run<'_>, plan: &Plan, again: Again, because: OriginReason) -> Option<Continuation> {
    let found = continue_from(run.plan, &run.state, plan, again, because).ok()?;
    if because == OriginReason::Rerun {
        assert!(found.origin.acted.is_empty(), "whoever did it answers for it");
        return Some(found);
    }
    // What could not be undone any more is found out before anything happens.
    let may_move = found.forgotten.is_empty();
    let to = RunId(Uuid::from_u128(8));
    (may_move && run.command(Command::Move { to }).is_ok()).then_some(found)
}

fn check(run: &mut Run<'_>) {
    run.check_fold();
    heal(run);
    run.check_fold();
    check_log(run.plan, run);
    check_undoing(run.plan, run);
}

/// Nothing is reused that did not end well, or whose needs are done again.
fn check_reuse(before: &Run<'_>, plan: &Plan, found: &Continuation, again: Again) {
    for (id, reused) in &found.origin.steps {
        let step = before.state.step(before.key(id));
        assert_eq!((step.status, &step.output), (reused.status, &reused.output));
        assert!(matches!(step.status, StepStatus::Succeeded | StepStatus::Skipped) || step.passed_over);
        let node = plan.find(id).expect("it is one of the plan");
        assert_ne!(Again::From(node.index), again);
        assert!(node.needs.iter().all(|need| found.origin.steps.contains_key(&plan.node(need.node).id)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_on_from_a_run_comes_to_its_end_and_answers_for_what_it_should(
        nodes in prop::collection::vec(node_spec(), 1..8),
        others in prop::collection::vec(prop::option::weighted(0.3, node_spec()), 1..9),
        compensation in (0..COMPENSATIONS.len(), 0..COMPENSATIONS.len()),
        life in prop::collection::vec(happening(), 0..40),
        later in prop::collection::vec(happening(), 0..30),
        (moves, from) in (any::<bool>(), prop::option::of(any::<usize>())),
    ) {
        let old = plan(&definition(&nodes, COMPENSATIONS[compensation.0]));
        let mended: Vec<NodeSpec> = (others.iter().enumerate())
            .filter_map(|(at, other)| other.clone().or_else(|| nodes.get(at).cloned()))
            .collect();
        let new = plan(&definition(&mended, COMPENSATIONS[compensation.1]));
        let again = match from {
            _ if moves => Again::Unfinished,
            None => Again::Everything,
            Some(number) => Again::From(NodeIndex((number % new.main_count()) as u16)),
        };
        let because = if moves { OriginReason::Move } else { OriginReason::Rerun };
        let mut run = Run::new(&old);
        run.take();
        for event in life.iter().filter(|event| !matches!(event, Happening::Cancel)) {
            happen(&mut run, event);
        }
        come_to_rest(&mut run);
        if let Some(found) = goes_on(&mut run, &new, again, because) {
            check_reuse(&run, &new, &found, again);
            let origin = Some(Box::new(found.origin));
            let mut next = Run::created(&new, RunCreated { origin, ..RunCreated::default() });
            next.take();
            for event in &later {
                happen(&mut next, event);
            }
            check(&mut next);
            prop_assert!(!moves || run.state.is_terminal(), "its place is taken");
        }
        check(&mut run);
    }
}
