//! The items of a step: whose turn it is, who has ended, and who has failed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{RunState, Step, WaitReason};
use crate::event::ItemsPlanned;
use crate::plan::{Plan, Role};
use crate::{NodeIndex, Payload, StepKey, StepStatus};

/// The items of one step. What happens to one item touches nothing that belongs to the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fan {
    /// How many there are.
    pub count: u32,
    /// The list whose elements they are; null when there is none.
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
}

impl RunState {
    /// Whether the items of a step are what it waits for.
    pub(crate) fn waits_for_items(&self, key: impl Into<StepKey>) -> bool {
        self.step(key).wait.as_ref().is_some_and(|wait| wait.on == WaitReason::Items)
    }

    pub(super) fn plan_items(&mut self, plan: &Plan, of: NodeIndex, planned: &ItemsPlanned) {
        self.ready.remove(&of.into());
        let fan = self.fans.entry(of).or_default();
        fan.count = planned.count;
        fan.stops = None;
        if !planned.each.is_null() {
            fan.each = planned.each.clone();
        }
        for item in &planned.again {
            fan.failed.remove(item);
            fan.again.insert(*item);
        }
        self.call_items(plan, of);
    }

    /// Lets items begin while there is a place for them. Once the last one has ended it is the turn of the
    /// step itself.
    fn call_items(&mut self, plan: &Plan, of: NodeIndex) {
        let node = plan.node(of);
        let (Some(body), Some(fan)) = (node.body, self.fans.get_mut(&of)) else { return };
        while may_call(&node.role, fan)
            && let Some(item) = fan.next_item()
        {
            fan.open += 1;
            let key = StepKey { node: body, item: Some(item) };
            // An item that is done again begins anew; its attempts are counted on.
            if let Some(step) = self.items.get_mut(&body).and_then(|steps| steps.get_mut(&item)) {
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
        if has_failed {
            fan.failed.insert(item);
            let is_fast = matches!(&plan.node(of).role, Role::Parallel(spec) if spec.fail_fast);
            fan.stops = fan.stops.or(is_fast.then_some(key.node));
        } else {
            fan.failed.remove(&item);
        }
        // Otherwise the step has ended without waiting for its items.
        if waits {
            fan.open = fan.open.saturating_sub(1);
            self.call_items(plan, of);
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
    match role {
        // Once too many have failed, the rest would be in vain.
        Role::Map(spec) => {
            fan.open < spec.parallel_max && !spec.tolerate.is_exceeded(fan.failed.len(), fan.count)
        }
        Role::Loop(_) => fan.open == 0 && fan.failed.is_empty(),
        Role::Parallel(spec) => fan.open < spec.parallel_max && fan.stops.is_none(),
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
    let bodies: BTreeSet<NodeIndex> = fans.keys().filter_map(|of| plan.node(*of).body).collect();
    let of_bodies = items.iter_mut().filter(move |(node, _)| bodies.contains(node));
    let outputs = of_bodies.flat_map(|(_, steps)| steps.values_mut().map(|step| &mut step.output));
    fans.values_mut().map(|fan| &mut fan.each).chain(outputs)
}
