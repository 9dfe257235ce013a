//! The undoing of a run: who acted, who undoes it, and whose turn it is.

use serde::{Deserialize, Serialize};

use super::{AttemptOutcome, Phase, RunState, StepStatus};
use crate::event::{CompensationOrder, CompensationOutcome, CompensationPlanned, Ending};
use crate::plan::{Plan, Role};
use crate::{StepError, StepKey};

/// What is undone, in which order, and how the run ends afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compensation {
    pub after: Ending,
    pub order: CompensationOrder,
    /// Compensating steps, in the order in which they run.
    pub steps: Vec<StepKey>,
    /// All before this one have settled.
    pub next: usize,
    pub unsettled: u32,
}

impl Compensation {
    fn in_turn(&self) -> Option<StepKey> {
        self.steps.get(self.next).copied()
    }
}

impl RunState {
    /// What the run did is undone from here on; nothing else begins any more.
    pub(super) fn begin_compensation(&mut self, planned: &CompensationPlanned) {
        self.let_go_of_steps();
        self.phase = Phase::Compensating;
        if let Some(error) = &planned.error {
            self.error = Some(error.clone());
        }
        let first = match planned.order {
            CompensationOrder::Parallel => planned.steps.len(),
            CompensationOrder::Reverse | CompensationOrder::Declared => 1,
        };
        self.ready.extend(planned.steps.iter().take(first));
        self.compensation = Some(Compensation {
            after: planned.after,
            order: planned.order,
            steps: planned.steps.clone(),
            next: 0,
            unsettled: planned.steps.len() as u32,
        });
    }

    /// One thing less to undo: in an order, the next one's turn may have come.
    pub(super) fn has_compensated(&mut self) {
        let Some(compensation) = &mut self.compensation else { return };
        compensation.unsettled = compensation.unsettled.saturating_sub(1);
        if compensation.order != CompensationOrder::Parallel {
            // A person may have skipped one out of its turn.
            while let Some(key) = self.compensation.as_ref().and_then(Compensation::in_turn) {
                if !self.step(key).status.is_settled() {
                    self.ready.extend((self.step(key).status == StepStatus::Pending).then_some(key));
                    return;
                }
                self.compensation.iter_mut().for_each(|it| it.next += 1);
            }
        }
    }

    /// Remembers who must be undone should the run not complete. The last attempt that may have acted counts.
    pub(super) fn note_deed(
        &mut self,
        plan: &Plan,
        node: StepKey,
        ended: AttemptOutcome,
        error: Option<&StepError>,
    ) {
        let (spec, step) = (plan.node(node), self.step(node));
        let has_acted = match spec.role {
            // A run that does not complete undoes what it did by itself.
            Role::Workflow(_) => {
                let is_done = match ended {
                    AttemptOutcome::Succeeded => true,
                    AttemptOutcome::Failed => error.is_some_and(StepError::may_follow_the_deed),
                    _ => false,
                };
                is_done && self.waits_for_child(node)
            }
            _ => step.status == StepStatus::Running && may_have_acted(ended, error),
        };
        if spec.compensation.is_some() && has_acted {
            // Also what the run before has done, and this one does once more.
            if !self.step(node).attempts.is_empty() || self.origin.is_some() {
                self.acted.retain(|it| *it != node);
            }
            self.acted.push(node);
        }
    }

    /// What became of the undoing.
    pub(crate) fn compensation_outcome(&self) -> Option<CompensationOutcome> {
        let steps = &self.compensation.as_ref()?.steps;
        let all = steps.iter().all(|key| self.step(*key).status == StepStatus::Succeeded);
        Some(if all { CompensationOutcome::Succeeded } else { CompensationOutcome::Incomplete })
    }
}

/// Whether an attempt that a runner worked on did its deed, or may have done it.
fn may_have_acted(ended: AttemptOutcome, error: Option<&StepError>) -> bool {
    if ended == AttemptOutcome::Lost && crate::planted("unknown_is_not_undone") {
        return false;
    }
    match ended {
        // A timeout or a cancel stops us from hearing the answer, not the other side from acting.
        AttemptOutcome::Succeeded
        | AttemptOutcome::Lost
        | AttemptOutcome::TimedOut
        | AttemptOutcome::Canceled => true,
        AttemptOutcome::Failed => error.is_some_and(StepError::may_follow_the_deed),
    }
}
