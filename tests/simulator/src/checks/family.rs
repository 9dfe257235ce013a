//! Runs and the runs that their steps have started, seen together.

use std::collections::{BTreeMap, BTreeSet};

use scenarios::{Event, Log};
use serde_json::Value;
use windlass_model::{EventBody, RunId, RunStatus};
use windlass_store::RunRow;

use crate::fleet::Fleet;

/// I19: an attempt of a step, or of an item of it, has one child, which has no more time than its parent.
pub(super) fn has_one_child_per_attempt(fleet: &Fleet) {
    let mut callers = BTreeMap::new();
    for row in fleet.runs() {
        let Some(state) = fleet.fold(row.id) else { continue };
        let Some(parent) = state.parent.clone() else { continue };
        let caller = (parent.run_id, parent.node.clone(), parent.item, parent.attempt);
        if let Some(other) = callers.insert(caller, row.id) {
            fleet.world.complain(format!(
                "I19: {other} and {} are both of attempt {} of {} of {}",
                row.id, parent.attempt, parent.node, parent.run_id
            ));
        }
        let Some(deadline) = fleet.fold(parent.run_id).and_then(|parent| parent.deadline_at) else {
            continue;
        };
        fleet.world.reach.hit("child_had_its_parents_deadline");
        if state.deadline_at.is_none_or(|own| own > deadline) {
            fleet.world.complain(format!(
                "I19: {} may go on to {:?}, its parent to {deadline:?}",
                row.id, state.deadline_at
            ));
        }
    }
}

/// I19: what a child gave is what its step gave, and a list of them has them in their order.
pub(super) fn came_to_what_its_children_did(fleet: &Fleet, row: &RunRow, log: &Log) {
    for pair in log.0.windows(2) {
        let [finished, ended] = pair else { continue };
        if !finished.is("child.finished")
            || (&finished.node, finished.attempt) != (&ended.node, ended.attempt)
        {
            continue;
        }
        let Some(child) = finished.body["run_id"].as_str().and_then(|id| id.parse().ok()).map(RunId) else {
            continue;
        };
        let completed = fleet.events(child).into_iter().rev().find_map(|event| match event.body {
            windlass_model::EventBody::RunCompleted(body) => Some(body.output),
            _ => None,
        });
        let gave = completed.as_ref().and_then(|output| output.value()).map(|value| (**value).clone());
        if ended.is("step.succeeded") && gave.as_ref() != Some(&ended.body["output"]) {
            fleet.world.complain(format!(
                "I19: {} ({}): {ended} gave {}, its run {child} {gave:?}",
                row.id, row.workflow, ended.body["output"]
            ));
        }
    }
}

/// I19: a list of results has one for each item, in their order.
pub(super) fn lists_are_complete(fleet: &Fleet, row: &RunRow, log: &Log) {
    for planned in log.0.iter().filter(|event| event.is("items.planned")) {
        let node = planned.node.as_deref().unwrap_or_default();
        let ends = log.of("step.succeeded", node);
        let Some(results) = ends.last().and_then(|end| end.body["output"].as_array()) else { continue };
        let count = planned.body["count"].as_u64();
        if planned.body["slice"].is_number() {
            fleet.world.reach.hit("list_was_dealt_out");
            slices_are_complete(fleet, row, log, node, results);
        }
        let complain = |what: String| {
            fleet.world.complain(format!("I19: {} ({}): {node} {what}", row.id, row.workflow));
        };
        if Some(results.len() as u64) != count {
            complain(format!("has {count:?} items, and gave {} results", results.len()));
        }
        for (item, result) in results.iter().enumerate() {
            let ends = log.of("step.succeeded", &format!("{node}.do[{item}]"));
            if ends.last().is_some_and(|end| end.body["output"] != *result) {
                complain(format!("gave {result} for item {item}, which came to {}", ends[0].body["output"]));
            }
        }
    }
}

/// I19: a list that was dealt out has what each item came to in its place, and nothing only where one is told to have
/// failed.
fn slices_are_complete(fleet: &Fleet, row: &RunRow, log: &Log, node: &str, results: &[Value]) {
    // Somebody has had his own way with one of its slices.
    let passes = |event: &Event| event.is("step.skipped") && event.body["reason"] == "command";
    let is_of_it = |event: &Event| event.node.as_deref().is_some_and(|step| step.starts_with(node));
    if log.0.iter().any(|event| passes(event) && is_of_it(event)) {
        return;
    }
    let mut gave: BTreeMap<usize, Value> = BTreeMap::new();
    for child in fleet.children(row.id) {
        let is_its_own = fleet.fold(child.id).and_then(|state| state.parent);
        if is_its_own.is_none_or(|parent| !parent.node.starts_with(node)) {
            continue;
        }
        for event in fleet.events(child.id) {
            // Or with one of its items.
            if matches!(event.body, EventBody::StepSkipped(_) | EventBody::StepEdited(_)) {
                return;
            }
            if let (Some(item), EventBody::StepSucceeded(body)) = (event.item, event.body) {
                let output = body.output.value().map_or(Value::Null, |value| (**value).clone());
                gave.insert(item as usize, output);
            }
        }
    }
    let told = log.0.iter().filter(|event| event.is("items.failed"));
    let failed: BTreeSet<usize> = told
        .flat_map(|event| event.body["failed"].as_array().into_iter().flatten())
        .filter_map(|item| item["index"].as_u64())
        .map(|index| index as usize)
        .collect();
    for (item, result) in results.iter().enumerate() {
        let is_right = match gave.get(&item) {
            Some(output) => output == result,
            None => result.is_null() && failed.contains(&item),
        };
        if !is_right {
            fleet.world.complain(format!(
                "I19: {} ({}): {node} gave {result} for item {item}, which came to {:?}; failed are {failed:?}",
                row.id,
                row.workflow,
                gave.get(&item)
            ));
        }
    }
}

/// I6: whether the end of a child waits to be taken in, or a child was never asked to stop although it must.
pub(crate) fn owes_its_family(fleet: &Fleet, row: &RunRow) -> bool {
    if row.status.is_terminal() {
        return false;
    }
    if fleet.world.has_news_of_children(row.id) {
        return true;
    }
    let recalled = fleet
        .fold(row.id)
        .into_iter()
        .flat_map(|state| state.children)
        .filter(|(_, child)| child.recalled.is_some());
    recalled.into_iter().any(|(run_id, _)| {
        let goes_on = |child: &RunRow| {
            matches!(
                child.status,
                RunStatus::Queued | RunStatus::Running | RunStatus::Waiting | RunStatus::Paused
            )
        };
        fleet.world.row(run_id).is_some_and(|child| goes_on(&child))
    })
}
