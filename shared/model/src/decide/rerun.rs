//! What a run that goes on from another one need not do again.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Rejection, RejectionCode};
use crate::event::{Origin, OriginReason, ReusedStep};
use crate::plan::{Node, Part};
use crate::state::Step;
use crate::{NodeIndex, Plan, RunState, StepKey, StepStatus, planted};

/// What is done again. Whatever needs it is, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Everything,
    /// This node of the new run's plan, and what has not ended well in the run before.
    From(NodeIndex),
    /// What has not ended well in the run before.
    Unfinished,
}

/// How a run would go on from another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    pub origin: Origin,
    /// Ids of nodes that are not done again, in the order of the definition.
    pub reused: Vec<String>,
    /// Ids of nodes that are yet to run, in the order of the definition.
    pub runs: Vec<String>,
    /// Ids of steps before that did what nobody would undo any more.
    pub forgotten: Vec<String>,
}

/// Finds out what a new run under `plan` has from a run `before`, which ran under `old`.
///
/// A step is reused when it has succeeded, was skipped, or failed and was passed over; when `plan` has a node of the
/// same id and kind; and when nothing that this node needs is done again. What the run before began to undo is not
/// there any more, or may not be: it is done again.
///
/// # Errors
/// `wrong_state` when the run before moves: it may yet come to another end than what is reused of it.
pub fn continue_from(
    old: &Plan,
    before: &RunState,
    plan: &Plan,
    again: Again,
    because: OriginReason,
) -> Result<Continuation, Rejection> {
    let rests = before.pause_reason().is_some() && before.in_flight.is_empty();
    if !rests && !before.is_terminal() {
        let message = "rerun is refused: the run has neither ended nor come to rest in a pause".to_owned();
        let (code, status) = (RejectionCode::WrongState, before.status(false));
        return Err(Rejection { code, message, status, violations: Vec::new() });
    }
    let main = &plan.nodes[..plan.main_count()];
    let undone = undone(old, before);
    let mut steps: BTreeMap<String, ReusedStep> = BTreeMap::new();
    for index in plan.groups.iter().flatten() {
        let node = plan.node(*index);
        let is_asked_for = match again {
            Again::Everything => true,
            Again::From(from) => from == *index && !planted("rerun_keeps_what_is_asked_for"),
            Again::Unfinished => false,
        };
        let after_what_is_reused = node.needs.iter().all(|need| steps.contains_key(&plan.node(need.node).id))
            || planted("rerun_keeps_what_needs_it");
        if !is_asked_for
            && after_what_is_reused
            && let Some(step) = step_of(old, before, node, &undone)
        {
            steps.insert(node.id.clone(), reuse(step));
        }
    }
    let (reused, runs): (Vec<_>, Vec<_>) =
        main.iter().map(|node| node.id.clone()).partition(|id| steps.contains_key(id));
    // Who does something again stands beside what was done before; who takes its place answers for it.
    let answers = because == OriginReason::Move && !planted("moved_run_forgets_its_deeds");
    let deeds: &[StepKey] = if answers { &before.acted } else { &[] };
    let (acted, forgotten): (Vec<StepKey>, Vec<StepKey>) = deeds.iter().copied().partition(|key| {
        let node = plan.find(&old.node(*key).id);
        key.item.is_none() && node.is_some_and(|node| node.compensation.is_some())
    });
    let acted = acted.into_iter().map(|key| old.node(key).id.clone()).collect();
    let forgotten = forgotten.into_iter().map(|key| old.label(key).into_owned()).collect();
    let requester = (because == OriginReason::Move).then(|| before.requester.clone());
    let origin = Origin { run_id: before.run_id, seq: before.last_seq, because, requester, steps, acted };
    Ok(Continuation { origin, reused, runs, forgotten })
}

/// The nodes whose undoing began, whatever came of it; what fallbacks and items did counts as their node's.
fn undone(old: &Plan, before: &RunState) -> BTreeSet<NodeIndex> {
    let steps = before.compensation.iter().flat_map(|compensation| &compensation.steps);
    steps
        // One that a person skipped or refused before it was begun has undone nothing.
        .filter(|key| before.step(**key).started_at.is_some())
        .map(|key| old.written_at(key.node))
        .collect()
}

/// The step before of what this node is for, if it has ended well and was left as it was.
fn step_of<'a>(
    old: &Plan,
    before: &'a RunState,
    node: &Node,
    undone: &BTreeSet<NodeIndex>,
) -> Option<&'a Step> {
    let old = old.find(&node.id).filter(|old| old.part == Part::Main && old.kind == node.kind)?;
    if undone.contains(&old.index) {
        return None;
    }
    let step = before.step(old.index);
    let is_over = match step.status {
        StepStatus::Succeeded | StepStatus::Skipped => true,
        StepStatus::Failed => step.passed_over,
        _ => false,
    };
    is_over.then_some(step)
}

fn reuse(step: &Step) -> ReusedStep {
    ReusedStep {
        status: step.status,
        output: step.output.clone(),
        passed_over: step.passed_over,
        error: step.error.clone(),
        skip_reason: step.skip_reason,
        artifacts: step.artifacts.clone(),
    }
}
