//! Slices: runs that take some of a map's items each, so that a large map is the work of many engines.
//!
//! A slice is the map itself once more. Its items have the numbers that they have in the whole, so what expressions see,
//! and what people read, is the same in both. It judges nothing: it says what its items came to, and the map does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Tick;
use super::fan::{FAILED_LISTED_MAX, failed_items, within_limit};
use crate::body::SLICE_KEY;
use crate::command::Outcome;
use crate::event::{FailedItem, ItemsFailed, ItemsPlanned};
use crate::state::Fan;
use crate::{Attempt, NodeIndex, Payload, Plan, RunState, StepError, StepKey};

/// Up to so many items are steps of the run itself: one engine is done with them before others would have begun.
pub const ITEMS_INLINE_MAX: u32 = 1_000;
/// Items of one slice. A run of its own costs about as much as a few dozen items that do nothing; and a worker that
/// comes to help finds some left to take.
pub const SLICE_ITEMS: u32 = 250;
/// Slices of one map that are under way. They share what the map may do side by side.
pub const SLICES_PARALLEL_MAX: u32 = 8;

impl Tick<'_> {
    /// A slice has ended: what did not succeed in it is noted before its success is.
    pub(super) fn tell_failed_items(&mut self, slice: StepKey, attempt: Attempt, outcome: &Outcome) {
        let Outcome::Succeeded { output, .. } = outcome else { return };
        if !self.plan.node(slice).is_slice() || crate::planted("slice_keeps_its_failures") {
            return;
        }
        let told: Option<ItemsFailed> = output.value().and_then(|output| {
            let part = |name: &str| output.get(name).cloned().unwrap_or_else(|| json!([]));
            let failed: Vec<FailedItem> = serde_json::from_value(part("failed")).ok()?;
            let left: Vec<u32> = serde_json::from_value(part("left")).ok()?;
            Some(ItemsFailed { failed, left })
        });
        if let Some(told) = told.filter(|told| !told.failed.is_empty() || !told.left.is_empty()) {
            self.emit_step(slice, Some(attempt), told);
        }
    }
}

/// The items that this run was started for.
pub(super) fn given(state: &RunState) -> Result<ItemsPlanned, StepError> {
    let not_there = || StepError::new("internal", "this run was given no items");
    let given = state.inputs.value().and_then(|inputs| inputs.get(SLICE_KEY)).ok_or_else(not_there)?;
    let items = given["items"].as_object().ok_or_else(not_there)?;
    let count = given["count"].as_u64().and_then(|count| u32::try_from(count).ok()).ok_or_else(not_there)?;
    // By number, as they are called, and not by how the numbers are spelled.
    let again: BTreeSet<u32> = items.keys().filter_map(|item| item.parse().ok()).collect();
    let each = Payload::new(given["items"].clone());
    Ok(ItemsPlanned { count, each, again: again.into_iter().collect(), slice: None })
}

/// What a slice came to: the outputs of its items by their numbers, and those that there are none of.
pub(super) fn result(plan: &Plan, state: &RunState, of: NodeIndex, fan: &Fan) -> Result<Payload, StepError> {
    let items = plan.node(of).body.and_then(|body| state.items.get(&body));
    let begun = items.into_iter().flatten();
    let outputs: serde_json::Map<String, Value> = begun
        .filter_map(|(item, step)| {
            let output = step.output.value().filter(|output| !output.is_null())?;
            Some((item.to_string(), (**output).clone()))
        })
        .collect();
    let failed: Vec<FailedItem> = failed_items(plan, state, of)
        .enumerate()
        .map(|(at, (index, error))| FailedItem {
            index,
            error: error.filter(|_| at < FAILED_LISTED_MAX).cloned(),
        })
        .collect();
    within_limit(Payload::new(json!({ "outputs": outputs, "failed": failed, "left": fan.again })))
}

/// What the items gave, in their order; null for those that gave nothing.
pub(super) fn outputs(plan: &Plan, state: &RunState, of: NodeIndex, fan: &Fan) -> Value {
    let mut outputs = vec![Value::Null; fan.count as usize];
    for slice in slices(plan, of, fan) {
        let result = state.step(slice).output.value();
        let given = result.and_then(|result| result["outputs"].as_object()).into_iter().flatten();
        for (nth, (item, output)) in given.enumerate() {
            let item = if crate::planted("slice_counts_from_zero") { Some(nth) } else { item.parse().ok() };
            if let Some(place) = item.and_then(|item| outputs.get_mut(item)) {
                place.clone_from(output);
            }
        }
    }
    Value::Array(outputs)
}

/// Why a slice could not do its work. What its items came to is not known then.
pub(super) fn broken(plan: &Plan, state: &RunState, of: NodeIndex, fan: &Fan) -> Option<StepError> {
    let broken = slices(plan, of, fan).find(|slice| {
        let slices = fan.slices.as_ref();
        slices.zip(slice.item).is_some_and(|(slices, number)| slices.broken.contains(&number))
    })?;
    let unknown = || StepError::new("internal", "unknown");
    Some(state.step(broken).error.clone().unwrap_or_else(unknown))
}

fn slices(plan: &Plan, of: NodeIndex, fan: &Fan) -> impl Iterator<Item = StepKey> {
    let count = fan.slices.as_ref().map_or(0, |slices| slices.taken.len() as u32);
    let node = plan.node(of).slices().map(|spec| spec.node);
    node.into_iter().flat_map(move |node| (0..count).map(move |number| StepKey { node, item: Some(number) }))
}
