//! The items of a step: whose turn it is, who has ended, and who has failed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{RunState, Step, WaitReason};
use crate::event::{FailedItem, ItemsFailed, ItemsPlanned};
use crate::plan::{MapSpec, Node, Plan, Role};
use crate::{NodeIndex, Payload, StepError, StepKey, StepStatus};

/// The items of one step. What happens to one item touches nothing that belongs to the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fan {
    /// How many there are.
    pub count: u32,
    /// The list whose elements they are, or in a slice its own, by their numbers; null when there is none.
    pub each: Payload,
    /// The first one that was never begun.
    pub next: u32,
    /// Those that are done again, before any that were never begun.
    pub again: BTreeSet<u32>,
    /// How many were begun and have not ended.
    pub open: u32,
    /// Those that have failed, unless an error rule has continued them.
    pub failed: BTreeSet<u32>,
    /// One has failed, and the others shall stop: items of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops: Option<NodeIndex>,
    /// The runs that take the items, when those are no steps of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Slices>,
}

/// The items of a map, dealt out to runs of their own. What is done again is dealt out anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slices {
    /// Items of one run.
    pub size: u32,
    /// Which items each has taken, in order.
    pub taken: Vec<Vec<u32>>,
    /// How many have not ended.
    pub open: u32,
    /// Those that have failed as a whole since the map was last begun.
    pub broken: BTreeSet<u32>,
    /// Why items have failed.
    pub errors: BTreeMap<u32, StepError>,
}

impl Fan {
    fn next_item(&mut self) -> Option<u32> {
        let again = self.again.pop_first();
        again.or_else(|| {
            let next = (self.next < self.count).then_some(self.next)?;
            self.next += 1;
            Some(next)
        })
    }

    /// The step of the next item, or of a run that takes the next ones.
    fn next_step(&mut self, node: &Node) -> Option<StepKey> {
        let first = self.next_item()?;
        let Some(size) = self.slices.as_ref().map(|slices| slices.size) else {
            self.open += 1;
            return node.body.map(|body| StepKey { node: body, item: Some(first) });
        };
        let mut items = vec![first];
        while items.len() < size as usize
            && let Some(item) = self.next_item()
        {
            items.push(item);
        }
        if crate::planted("item_between_slices_is_lost") {
            self.next_item();
        }
        self.open += items.len() as u32;
        let slices = self.slices.as_mut()?;
        let number = u32::try_from(slices.taken.len()).unwrap_or(u32::MAX);
        slices.taken.push(items);
        slices.open += 1;
        node.slices().map(|spec| StepKey { node: spec.node, item: Some(number) })
    }
}

impl Slices {
    fn items(&self, slice: u32) -> &[u32] {
        self.taken.get(slice as usize).map_or(&[], Vec::as_slice)
    }
}

impl RunState {
    /// Whether the items of a step are what it waits for.
    pub(crate) fn waits_for_items(&self, key: impl Into<StepKey>) -> bool {
        self.step(key).wait.as_ref().is_some_and(|wait| wait.on == WaitReason::Items)
    }

    pub(super) fn plan_items(&mut self, plan: &Plan, of: NodeIndex, planned: &ItemsPlanned) {
        self.ready.remove(&of.into());
        let is_known = self.fans.contains_key(&of);
        let fan = self.fans.entry(of).or_default();
        fan.count = planned.count;
        fan.stops = None;
        if !is_known && !planned.again.is_empty() {
            fan.next = fan.count;
        }
        if let Some(size) = planned.slice {
            fan.slices = Some(Slices { size, ..Slices::default() });
        }
        if let Some(slices) = &mut fan.slices {
            slices.broken.clear();
        }
        if !planned.each.is_null() {
            fan.each = planned.each.clone();
        }
        for item in &planned.again {
            fan.failed.remove(item);
            fan.again.insert(*item);
            if let Some(slices) = &mut fan.slices {
                slices.errors.remove(item);
            }
        }
        self.call_items(plan, of);
    }

    /// Lets items begin while there is a place for them. Once the last one has ended it is the turn of the
    /// step itself.
    fn call_items(&mut self, plan: &Plan, of: NodeIndex) {
        let node = plan.node(of);
        let Some(fan) = self.fans.get_mut(&of) else { return };
        while may_call(&node.role, fan)
            && let Some(key) = fan.next_step(node)
        {
            // An item that is done again begins anew; its attempts are counted on.
            let known = key.item.and_then(|item| self.items.get_mut(&key.node)?.get_mut(&item));
            if let Some(step) = known {
                step.call_again();
            }
            self.ready.insert(key);
        }
        if self.fans.get(&of).is_some_and(|fan| fan.open == 0) {
            self.ready.insert(of.into());
        }
    }

    pub(super) fn item_has_ended(&mut self, plan: &Plan, of: NodeIndex, key: StepKey) {
        let (has_failed, waits) = {
            let step = self.step(key);
            (step.status == StepStatus::Failed && !step.passed_over, self.waits_for_items(of))
        };
        let (Some(fan), Some(item)) = (self.fans.get_mut(&of), key.item) else { return };
        let mut ended = 1;
        if let Some(slices) = &mut fan.slices {
            ended = slices.items(item).len() as u32;
            if has_failed {
                slices.broken.insert(item);
                fan.again.extend(slices.items(item));
            }
            slices.open = slices.open.saturating_sub(u32::from(waits));
        } else if has_failed {
            fan.failed.insert(item);
            let is_fast = matches!(&plan.node(of).role, Role::Parallel(spec) if spec.fail_fast);
            fan.stops = fan.stops.or(is_fast.then_some(key.node));
        } else {
            fan.failed.remove(&item);
        }
        // Otherwise the step has ended without waiting for its items.
        if waits {
            fan.open = fan.open.saturating_sub(ended);
            self.call_items(plan, of);
        }
    }

    /// What a slice tells of its items, before it ends.
    pub(super) fn items_failed(&mut self, plan: &Plan, slice: StepKey, body: &ItemsFailed) {
        let fan = plan.fan_of(slice.node).and_then(|of| self.fans.get_mut(&of));
        let Some(fan) = fan else { return };
        fan.again.extend(&body.left);
        for FailedItem { index, error } in &body.failed {
            fan.failed.insert(*index);
            if let (Some(slices), Some(error)) = (&mut fan.slices, error) {
                slices.errors.insert(*index, error.clone());
            }
        }
    }

    /// Whether this item was begun and has not ended.
    pub(super) fn is_item_in_play(&self, of: NodeIndex, key: StepKey) -> bool {
        let is_open = || match self.step(key).status {
            StepStatus::Running | StepStatus::Waiting | StepStatus::Paused => true,
            StepStatus::Pending => self.ready.contains(&key),
            _ => false,
        };
        self.waits_for_items(of) && is_open()
    }
}

/// Whether another item may begin beside those that are open.
fn may_call(role: &Role, fan: &Fan) -> bool {
    match (role, &fan.slices) {
        // Once too many have failed, the rest would be in vain.
        (Role::Map(spec), _) if spec.tolerate.is_exceeded(fan.failed.len(), fan.count) => false,
        (Role::Map(spec), None) => fan.open < spec.parallel_max,
        (Role::Map(MapSpec { slices: Some(spec), .. }), Some(slices)) => {
            slices.open < spec.parallel_max && slices.broken.is_empty()
        }
        (Role::Loop(_), _) => fan.open == 0 && fan.failed.is_empty(),
        (Role::Parallel(spec), _) => fan.open < spec.parallel_max && fan.stops.is_none(),
        _ => false,
    }
}

impl Step {
    /// A step that was called before begins once more. Its attempts are counted on, so that each has an
    /// idempotency key of its own.
    pub(super) fn call_again(&mut self) {
        let attempts = std::mem::take(&mut self.attempts);
        let artifacts = std::mem::take(&mut self.artifacts);
        *self = Self {
            attempt: self.attempt,
            key_attempt: self.key_attempt,
            attempts,
            artifacts,
            ..Self::default()
        };
    }
}

/// What lies in the blob store and may be read of items: their lists, and what came of them.
pub(super) fn payloads<'s>(
    plan: &Plan,
    fans: &'s mut BTreeMap<NodeIndex, Fan>,
    items: &'s mut BTreeMap<NodeIndex, BTreeMap<u32, Step>>,
) -> impl Iterator<Item = &'s mut Payload> {
    let nodes = fans.keys().map(|of| plan.node(*of));
    let bodies: BTreeSet<NodeIndex> =
        nodes.flat_map(|node| node.body.into_iter().chain(node.slices().map(|spec| spec.node))).collect();
    let of_bodies = items.iter_mut().filter(move |(node, _)| bodies.contains(node));
    let outputs = of_bodies.flat_map(|(_, steps)| steps.values_mut().map(|step| &mut step.output));
    fans.values_mut().map(|fan| &mut fan.each).chain(outputs)
}
