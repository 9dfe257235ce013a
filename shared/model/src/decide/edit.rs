//! What people change in a paused run: what its steps come to, what its machine remembers, and which run goes on in its
//! place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Tick;
use crate::command::{Rejection, RejectionCode};
use crate::event::{MachineEdited, RunCanceled, StepEdited};
use crate::machine::check_context;
use crate::plan::Part;
use crate::state::WaitReason;
use crate::{NodeIndex, Payload, RunId, StepKey, StepStatus, planted};

impl Tick<'_> {
    /// Nothing is changed unless all of it can be.
    pub(super) fn edit(
        &mut self,
        outputs: BTreeMap<NodeIndex, Payload>,
        context: Map<String, Value>,
    ) -> Result<(), Rejection> {
        for (node, output) in &outputs {
            self.check_output(*node, output)?;
        }
        self.check_assigned(&context)?;
        for (node, output) in outputs {
            let attempt = self.state.open_attempt(self.plan, node.into());
            self.emit_step(node, attempt, StepEdited { output });
        }
        if !context.is_empty() {
            self.emit_run(MachineEdited { assigned: context });
        }
        Ok(())
    }

    fn check_output(&self, index: NodeIndex, output: &Payload) -> Result<(), Rejection> {
        let (node, key) = (self.plan.node(index), StepKey::from(index));
        let step = self.state.step(key);
        if node.part != Part::Main {
            return Err(self.wrong_step_state(key, "can be edited when it stands under `nodes` or `steps`"));
        }
        let is_busy = match (step.status, step.wait.as_ref().map(|wait| &wait.on)) {
            (StepStatus::Running | StepStatus::Canceled, _) => true,
            (_, Some(WaitReason::Child { .. } | WaitReason::Items | WaitReason::Fallback)) => true,
            // What a state invokes begins with the state, and not before.
            (StepStatus::Pending, _) => self.plan.machine.is_some(),
            _ => false,
        };
        if is_busy {
            return Err(self.wrong_step_state(key, "can be edited while nothing works on it"));
        }
        match output.value() {
            Some(value) => {
                let at = format!("/steps/{}/output", node.id);
                self.check_schema("output", &at, node.violations(value))
            }
            None => Ok(()),
        }
    }

    fn check_assigned(&self, assigned: &Map<String, Value>) -> Result<(), Rejection> {
        if assigned.is_empty() {
            return Ok(());
        }
        let Some(machine) = &self.state.machine else {
            let sentence = "only a machine has a context; this run has steps";
            return Err(self.refuse(RejectionCode::WrongState, sentence));
        };
        if !machine.has_started {
            let sentence = "the machine has not begun, and has no context yet";
            return Err(self.refuse(RejectionCode::WrongState, sentence));
        }
        let mut after = machine.state.context.as_object().cloned().unwrap_or_default();
        after.extend(assigned.clone());
        check_context(&Value::Object(after))
            .map_err(|error| self.refuse(RejectionCode::InvalidPayload, error.message))
    }

    /// Another run goes on from here, under another version.
    pub(super) fn move_to(&mut self, to: RunId) -> Result<(), Rejection> {
        let why_not = if self.state.machine.is_some() {
            "it is a machine, whose states another version may not have"
        } else if self.state.parent.is_some() {
            "another run waits for it"
        } else if !self.state.in_flight.is_empty() {
            "steps of it are still running"
        } else if !self.state.children.is_empty() && !planted("moved_run_leaves_its_children") {
            "runs that it has started have not ended"
        } else {
            self.emit_run(RunCanceled { compensation: None, moved_to: Some(to) });
            return Ok(());
        };
        Err(self.refuse(RejectionCode::WrongState, format!("the run cannot be moved: {why_not}")))
    }
}
