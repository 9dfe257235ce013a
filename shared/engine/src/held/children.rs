//! What a held run hears of its children, and what they hear of it.

use windlass_model::{ChildEnd, Event, EventBody, Input, RunId, planted};
use windlass_store::{EndedChild, point};

use super::fold::fetch;
use super::{HeldRun, HoldError};
use crate::family;
use crate::patience::patiently;

/// Ends of children that one tick takes in at the most.
const CHILDREN_PER_TICK_MAX: u32 = 128;

impl HeldRun {
    /// Children whose end has not been taken in yet, as inputs.
    pub(super) async fn ended_children(&mut self) -> Result<Vec<Input>, HoldError> {
        self.has_more_ended = false;
        if self.state.children.is_empty() {
            return Ok(Vec::new());
        }
        let (tenant, run_id) = (self.heritage.tenant, self.state.run_id);
        let store = &self.engine.parts.store;
        let ended = patiently(|| store.find_ended_children(tenant, run_id, CHILDREN_PER_TICK_MAX)).await?;
        if !ended.is_empty() {
            point("engine.child_end_read");
        }
        self.has_more_ended = ended.len() == CHILDREN_PER_TICK_MAX as usize;
        let mut inputs = Vec::with_capacity(ended.len());
        for EndedChild { run_id, mut end } in ended {
            if let (ChildEnd::Completed(output), Some(child)) = (&mut end, self.state.children.get(&run_id)) {
                let node = self.plan.node(child.step);
                if node.output_is_read || node.output_schema.is_some() {
                    fetch(&self.engine, tenant, output).await?;
                }
            }
            inputs.push(Input::ChildEnded { run_id, end });
        }
        Ok(inputs)
    }

    /// Whether a child shall stop that this engine has not asked to.
    pub(super) fn owes_recall(&self) -> bool {
        if planted("recall_dies_with_its_engine") {
            return false;
        }
        let mut recalled = self.state.children.iter().filter(|(_, child)| child.recalled.is_some());
        recalled.any(|(run_id, _)| !self.recalled.contains(run_id))
    }

    /// Asks children to stop of which the log says that they shall. True when there were any.
    pub(super) async fn recall_children(&mut self) -> bool {
        let mut asked = false;
        for (run_id, child) in &self.state.children {
            if let Some(because) = child.recalled
                && self.recalled.insert(*run_id)
            {
                if planted("cancel_not_passed_on") {
                    continue;
                }
                point("engine.before_recall");
                Box::pin(family::recall(
                    &self.engine.parts,
                    self.heritage.tenant,
                    *run_id,
                    because.sentence(),
                ))
                .await;
                point("engine.recalled");
                asked = true;
            }
        }
        asked
    }
}

/// Whether one of these events starts this child.
pub(super) fn starts(events: &[Event], child: RunId) -> bool {
    events.iter().any(|event| matches!(&event.body, EventBody::ChildStarted(body) if body.run_id == child))
}
