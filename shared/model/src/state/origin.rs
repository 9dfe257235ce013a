//! What a run has from another one, and what people set in it by hand.

use super::RunState;
use super::machine::assign;
use crate::event::{MachineEdited, Origin, ReusedStep};
use crate::plan::Plan;
use crate::{Payload, StepKey, StepStatus, Timestamp, planted};

impl RunState {
    /// Steps that ended in the run before have ended in this one, too. Not done here, they are not undone here either,
    /// unless this run answers for that.
    pub(super) fn take_over(&mut self, plan: &Plan, origin: &Origin, at: Timestamp) {
        for (id, before) in &origin.steps {
            let Some(node) = plan.find(id) else { continue };
            let ReusedStep { status, output, passed_over, error, skip_reason, artifacts } = before.clone();
            let step = self.step_mut(node.index.into());
            (step.status, step.output, step.passed_over) = (status, output, passed_over);
            (step.error, step.skip_reason, step.artifacts) = (error, skip_reason, artifacts);
            (step.reused, step.ended_at) = (true, Some(at));
        }
        for id in origin.steps.keys() {
            if let Some(node) = plan.find(id) {
                self.ready.remove(&node.index.into());
                self.release_dependents(plan, node.index);
            }
        }
        self.acted = origin.acted.iter().filter_map(|id| Some(plan.find(id)?.index.into())).collect();
        if let Some(requester) = &origin.requester {
            self.requester = requester.clone();
        }
        let of = Origin { steps: Default::default(), acted: Vec::new(), ..origin.clone() };
        self.origin = Some(Box::new(of));
    }

    pub(super) fn edit_step(&mut self, plan: &Plan, node: StepKey, output: &Payload, at: Timestamp) {
        let is_settled = self.step(node).status.is_settled();
        if !is_settled || !planted("edit_is_forgotten") {
            self.step_mut(node).output = output.clone();
        }
        if !is_settled {
            self.leave_wait(node);
            self.step_mut(node).error = None;
            self.settle(plan, node, StepStatus::Succeeded, at);
        }
    }

    pub(super) fn edit_machine(&mut self, edited: &MachineEdited) {
        if let Some(machine) = &mut self.machine {
            assign(&mut machine.state.context, &edited.assigned);
        }
    }
}
