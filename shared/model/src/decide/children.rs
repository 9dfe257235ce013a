//! Runs that steps start: how their end moves the step, and when they are asked to stop.

use serde_json::json;

use super::Tick;
use crate::command::{ChildEnd, Outcome};
use crate::event::{ChildCancelRequested, ChildFinished, ChildStarted, RecallReason};
use crate::{Attempt, RunId, StepError, StepKey};

impl Tick<'_> {
    /// A step's child is ready: from here on the step waits for it.
    pub(super) fn call(&mut self, node: StepKey, attempt: Attempt, mut child: ChildStarted) {
        child.until = self.plan.node(node).timeout.map(|timeout| self.now.plus(timeout));
        self.emit_step(node, Some(attempt), child);
    }

    /// A child has ended. One whose end was taken before is not there any more.
    pub(super) fn child_ended(&mut self, run_id: RunId, end: ChildEnd) {
        let Some(child) = self.state.children.get(&run_id).cloned() else { return };
        let is_waited_for = self.state.waits_for(run_id, &child);
        let finished = ChildFinished { run_id, status: end.status() };
        self.emit_step(child.step, Some(child.attempt), finished);
        if is_waited_for {
            let outcome = self.outcome_of_child(run_id, child.step, child.recalled, end);
            self.tell_failed_items(child.step, child.attempt, &outcome);
            self.take_outcome(child.step, child.attempt, outcome);
        }
    }

    fn outcome_of_child(
        &self,
        run_id: RunId,
        step: StepKey,
        recalled: Option<RecallReason>,
        end: ChildEnd,
    ) -> Outcome {
        let details = json!({ "run_id": run_id });
        match end {
            // Also when it was asked to stop, and was faster.
            ChildEnd::Completed(output) => Outcome::Succeeded { output, artifacts: Vec::new(), emit: None },
            // The deadline that it has met is ours, and the run itself ends by it.
            ChildEnd::Failed(error) if self.is_stopping() && error.kind == "timeout" => Outcome::Canceled,
            // A body has no errors of its own: what its nodes met is what the node that has it has met.
            ChildEnd::Failed(error) if self.plan.node(step).has_body() => {
                let details = json!({ "run_id": run_id, "details": error.details });
                let error = StepError::new(error.kind, error.message).with_details(details);
                Outcome::Failed { error, artifacts: Vec::new() }
            }
            ChildEnd::Failed(error) => {
                let message = format!("run {run_id} failed: {}", error.message);
                let details = json!({ "run_id": run_id, "error": error });
                let error = StepError::new("child.failed", message).with_details(details);
                Outcome::Failed { error, artifacts: Vec::new() }
            }
            ChildEnd::Canceled if self.is_stopping() => Outcome::Canceled,
            ChildEnd::Canceled if recalled == Some(RecallReason::Timeout) => {
                let message = format!("run {run_id} took longer than the step may and was canceled");
                Outcome::TimedOut { error: StepError::new("timeout", message).with_details(details) }
            }
            ChildEnd::Canceled if recalled == Some(RecallReason::BranchFailed) => {
                let error = StepError::new("canceled", "stopped, because another branch has failed");
                Outcome::Failed { error: error.with_details(details), artifacts: Vec::new() }
            }
            ChildEnd::Canceled => {
                let error = StepError::new("child.canceled", format!("run {run_id} was canceled"));
                Outcome::Failed { error: error.with_details(details), artifacts: Vec::new() }
            }
        }
    }

    /// Asks every child to stop that must: all of them when the run itself comes to an end.
    pub(super) fn recall_children(&mut self) {
        for (run_id, child) in self.state.children.clone() {
            let past_deadline = self.is_stopping().then_some(RecallReason::ParentDeadline);
            let because = self.state.recall_reason(run_id, &child);
            if let Some(because) = because.or(past_deadline.filter(|_| child.recalled.is_none())) {
                self.recall(run_id, child.step, because);
            }
        }
    }

    pub(super) fn recall(&mut self, run_id: RunId, node: StepKey, because: RecallReason) {
        let attempt = self.state.children.get(&run_id).map(|child| child.attempt);
        self.emit_step(node, attempt, ChildCancelRequested { run_id, because });
    }
}
