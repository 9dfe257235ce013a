//! Steps with items: finds them, and concludes once they have ended.

use serde_json::{Value, json};

use super::Tick;
use crate::event::{ItemsPlanned, StepSucceeded};
use crate::payload::PAYLOAD_BYTES_MAX;
use crate::plan::{MapSpec, Role};
use crate::state::Fan;
use crate::{NodeIndex, Payload, Plan, RunState, StepError, StepKey};

/// Items of one step. A run's state holds a step for each, and an engine keeps it in memory.
pub const ITEMS_MAX: usize = 10_000;
/// Failed items that an error, or the view of a step, lists.
pub const FAILED_LISTED_MAX: usize = 100;

impl Tick<'_> {
    /// Begins an attempt of a map: with all items of its list, or with those that the last one left undone.
    pub(super) fn find_items(&mut self, node: StepKey, spec: &MapSpec) {
        let attempt = self.state.step(node).attempt + 1;
        let planned = match self.state.fans.get(&node.node) {
            Some(fan) => Ok(ItemsPlanned {
                count: fan.count,
                each: Payload::null(),
                again: fan.failed.iter().copied().collect(),
            }),
            None => spec.each.render(&self.context(node)).and_then(planned),
        };
        match planned {
            Ok(planned) => self.emit_step(node, Some(attempt), planned),
            Err(error) => self.fail_without_runner(node, attempt, error),
        }
    }

    /// Every item that was begun has ended.
    pub(super) fn conclude_items(&mut self, node: StepKey) {
        let attempt = self.state.step(node).attempt;
        let Some(fan) = self.state.fans.get(&node.node) else { return };
        let result = match &self.plan.node(node).role {
            Role::Map(spec) if spec.tolerate.is_exceeded(fan.failed.len(), fan.count) => {
                Err(items_failed(self.plan, self.state, node.node, fan))
            }
            _ => outputs(self.plan, self.state, node.node, fan),
        };
        match result {
            Ok(output) => {
                self.emit_step(node, Some(attempt), StepSucceeded { output, artifacts: Vec::new() });
            }
            Err(error) => self.fail_without_runner(node, attempt, error),
        }
    }
}

fn planned(list: Value) -> Result<ItemsPlanned, StepError> {
    let Value::Array(items) = &list else {
        let detail = format!("`each` must give a list, not {}", crate::workflow::excerpt(&list.to_string()));
        return Err(StepError::new("schema.input", detail));
    };
    if items.len() > ITEMS_MAX {
        let detail = format!("{} items; {ITEMS_MAX} are allowed", items.len());
        return Err(StepError::new("limit.items", detail));
    }
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    Ok(ItemsPlanned { count, each: Payload::new(list), again: Vec::new() })
}

/// What the items gave, in their order; null for those that gave nothing.
fn outputs(plan: &Plan, state: &RunState, of: NodeIndex, fan: &Fan) -> Result<Payload, StepError> {
    let Some(body) = plan.node(of).body else { return Ok(Payload::null()) };
    let outputs = (0..fan.count).map(|item| {
        let output = state.step(StepKey { node: body, item: Some(item) }).output.value();
        output.map_or(Value::Null, |value| (**value).clone())
    });
    let output = Payload::new(outputs.collect());
    match &output {
        Payload::Blob { blob, .. } if blob.size_bytes > PAYLOAD_BYTES_MAX as u64 => {
            let sentence = format!(
                "the outputs of all items have {} bytes; {PAYLOAD_BYTES_MAX} are allowed",
                blob.size_bytes
            );
            Err(StepError::new("limit.output", sentence))
        }
        _ => Ok(output),
    }
}

fn items_failed(plan: &Plan, state: &RunState, of: NodeIndex, fan: &Fan) -> StepError {
    let listed: Vec<Value> = failed_items(plan, state, of)
        .take(FAILED_LISTED_MAX)
        .map(|(index, error)| json!({ "index": index, "error": error }))
        .collect();
    let first = listed.first().and_then(|it| it["error"]["message"].as_str()).unwrap_or_default();
    let sentence = format!("{} of {} items failed, the first with: {first}", fan.failed.len(), fan.count);
    let details = json!({ "failed": fan.failed.len(), "count": fan.count, "failed_items": listed });
    StepError::new("map.items_failed", sentence).with_details(details)
}

/// The items of a step that have failed, and why.
pub(crate) fn failed_items<'s>(
    plan: &Plan,
    state: &'s RunState,
    of: NodeIndex,
) -> impl Iterator<Item = (u32, Option<&'s StepError>)> {
    let body = plan.node(of).body;
    let failed = state.fans.get(&of).into_iter().flat_map(|fan| fan.failed.iter().copied());
    failed.map(move |item| {
        let error = body.and_then(|node| state.step(StepKey { node, item: Some(item) }).error.as_ref());
        (item, error)
    })
}
