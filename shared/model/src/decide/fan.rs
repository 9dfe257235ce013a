//! Steps with items: finds them, and concludes once they have ended.

use serde_json::{Value, json};

use super::Tick;
use super::slice;
use crate::event::{ItemsPlanned, StepSucceeded};
use crate::payload::PAYLOAD_BYTES_MAX;
use crate::plan::{GoesOn, LoopSpec, MapSpec, ParallelSpec, Role};
use crate::state::Fan;
use crate::{NodeIndex, Payload, Plan, RunState, StepError, StepKey};

/// Items of one step. A run's state holds a step for each, and an engine keeps it in memory.
pub const ITEMS_MAX: usize = 10_000;
/// Failed items that an error, or the view of a step, lists.
pub const FAILED_LISTED_MAX: usize = 100;

impl Tick<'_> {
    /// Begins an attempt: with all items, or with those that the last attempt left undone.
    pub(super) fn find_items(&mut self, node: StepKey) {
        let attempt = self.state.step(node).attempt + 1;
        let planned = match (self.state.fans.get(&node.node), &self.plan.node(node).role) {
            (Some(fan), _) => {
                let again = fan.failed.iter().copied().collect();
                Ok(ItemsPlanned { count: fan.count, again, ..ItemsPlanned::default() })
            }
            (None, Role::Map(spec)) if spec.is_slice => slice::given(self.state),
            (None, Role::Map(spec)) => {
                spec.each.render(&self.context(node)).and_then(|list| planned(list, spec))
            }
            (None, Role::Parallel(spec)) => {
                let count = u32::try_from(spec.branches.len()).unwrap_or(u32::MAX);
                Ok(ItemsPlanned { count, ..ItemsPlanned::default() })
            }
            // Its rounds are found one by one.
            (None, _) => Ok(ItemsPlanned::default()),
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
        let broken = slice::broken(self.plan, self.state, node.node, fan);
        let concluded = match &self.plan.node(node).role {
            Role::Map(_) if let Some(error) = broken => Err(error),
            Role::Map(spec) if spec.is_slice => {
                slice::result(self.plan, self.state, node.node, fan).map(Next::Succeeds)
            }
            Role::Map(spec) if spec.tolerate.is_exceeded(fan.failed.len(), fan.count) => {
                Err(items_failed(self.plan, self.state, node.node, fan))
            }
            Role::Loop(spec) => self.next_round(node, spec, fan),
            Role::Parallel(spec) => self.branches(node, spec, fan).map(Next::Succeeds),
            _ => outputs(self.plan, self.state, node.node, fan).map(Next::Succeeds),
        };
        match concluded {
            Ok(Next::Succeeds(output)) => {
                self.emit_step(node, Some(attempt), StepSucceeded { output, artifacts: Vec::new() });
            }
            Ok(Next::Round(count)) => {
                self.emit_step(node, Some(attempt), ItemsPlanned { count, ..ItemsPlanned::default() });
            }
            Err(error) => self.fail_without_runner(node, attempt, error),
        }
    }

    /// What the branches gave, by name.
    fn branches(&self, node: StepKey, spec: &ParallelSpec, fan: &Fan) -> Result<Payload, StepError> {
        let failed = || failed_items(self.plan, self.state, node.node);
        // Those that were stopped say nothing about why.
        let first = failed().find(|(_, error)| error.is_some_and(|error| error.kind != "canceled"));
        let Some((branch, error)) = first.or_else(|| failed().next()) else {
            let outputs = outputs(self.plan, self.state, node.node, fan)?;
            let outputs = outputs.value().and_then(|value| value.as_array().cloned()).unwrap_or_default();
            let by_name = spec.branches.iter().cloned().zip(outputs);
            return within_limit(Payload::new(Value::Object(by_name.collect())));
        };
        let name = |branch: u32| spec.branches.get(branch as usize).map_or("", String::as_str);
        let listed: Vec<Value> =
            failed().map(|(branch, error)| json!({ "branch": name(branch), "error": error })).collect();
        let unknown = || StepError::new("internal", "unknown");
        let StepError { kind, message, .. } = error.cloned().unwrap_or_else(unknown);
        let sentence = format!("branch `{}` failed: {message}", name(branch));
        Err(StepError::new(kind, sentence).with_details(json!({ "failed_branches": listed })))
    }

    fn next_round(&self, node: StepKey, spec: &LoopSpec, fan: &Fan) -> Result<Next, StepError> {
        if let Some((round, error)) = failed_items(self.plan, self.state, node.node).next() {
            let unknown = || StepError::new("internal", format!("round {round} failed"));
            return Err(error.cloned().unwrap_or_else(unknown));
        }
        let context = self.context(node);
        let goes_on = match &spec.goes_on {
            GoesOn::While(condition) => condition.is_true(&context)?,
            GoesOn::Until(condition) => fan.count == 0 || !condition.is_true(&context)?,
        };
        if goes_on && fan.count >= spec.rounds_max {
            let sentence = format!("it goes on after {} iterations; no more are allowed", fan.count);
            return Err(StepError::new("limit.iterations", sentence));
        }
        if goes_on {
            return Ok(Next::Round(fan.count + 1));
        }
        let body = self.plan.node(node).body;
        let last = fan.count.checked_sub(1).zip(body).and_then(|(round, body)| {
            self.state.step(StepKey { node: body, item: Some(round) }).output.value()
        });
        let last = last.map_or(Value::Null, |value| (**value).clone());
        within_limit(Payload::new(json!({ "last": last, "iterations": fan.count }))).map(Next::Succeeds)
    }
}

/// What follows once the items have ended.
enum Next {
    Succeeds(Payload),
    /// There are this many now.
    Round(u32),
}

fn planned(list: Value, spec: &MapSpec) -> Result<ItemsPlanned, StepError> {
    let Value::Array(items) = &list else {
        let detail = format!("`each` must give a list, not {}", crate::workflow::excerpt(&list.to_string()));
        return Err(StepError::new("schema.input", detail));
    };
    if items.len() > ITEMS_MAX {
        let detail = format!("{} items; {ITEMS_MAX} are allowed", items.len());
        return Err(StepError::new("limit.items", detail));
    }
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let slice = spec.slices.filter(|slices| count > slices.above).map(|slices| slices.size);
    Ok(ItemsPlanned { count, each: Payload::new(list), again: Vec::new(), slice })
}

/// What the items gave, in their order; null for those that gave nothing.
fn outputs(plan: &Plan, state: &RunState, of: NodeIndex, fan: &Fan) -> Result<Payload, StepError> {
    let Some(body) = plan.node(of).body else { return Ok(Payload::null()) };
    if fan.slices.is_some() {
        return within_limit(Payload::new(slice::outputs(plan, state, of, fan)));
    }
    let outputs = (0..fan.count).map(|item| {
        let output = state.step(StepKey { node: body, item: Some(item) }).output.value();
        output.map_or(Value::Null, |value| (**value).clone())
    });
    within_limit(Payload::new(outputs.collect()))
}

pub(super) fn within_limit(output: Payload) -> Result<Payload, StepError> {
    match &output {
        Payload::Blob { blob, .. } if blob.size_bytes > PAYLOAD_BYTES_MAX as u64 => {
            let sentence =
                format!("the output has {} bytes; {PAYLOAD_BYTES_MAX} are allowed", blob.size_bytes);
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
    let fan = state.fans.get(&of);
    let slices = fan.and_then(|fan| fan.slices.as_ref());
    let failed = fan.into_iter().flat_map(|fan| fan.failed.iter().copied());
    failed.map(move |item| {
        let error = match slices {
            Some(slices) => slices.errors.get(&item),
            None => body.and_then(|node| state.step(StepKey { node, item: Some(item) }).error.as_ref()),
        };
        (item, error)
    })
}
