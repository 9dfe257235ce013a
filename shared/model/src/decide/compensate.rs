//! Undoes what a run did before it fails or is canceled.

use super::Tick;
use crate::event::{CompensationOrder, CompensationPlanned, Ending, RunCanceled, RunFailed};
use crate::state::Phase;
use crate::{StepError, StepKey};

impl Tick<'_> {
    /// Ends a run that has come to a stop.
    pub(super) fn end_stopped(&mut self) {
        match self.state.phase {
            Phase::Canceling => self.end_or_compensate(Ending::Canceled, None),
            Phase::Failing => self.end_or_compensate(Ending::Failed, None),
            _ => {
                self.end_or_compensate(Ending::Failed, Some(StepError::past_deadline()));
            }
        }
    }

    /// Ends the run, or first plans the undoing of what it did. `error`: why, when no step has said so.
    pub(super) fn end_or_compensate(&mut self, after: Ending, error: Option<StepError>) {
        let steps = self.what_to_undo(after);
        if steps.is_empty() {
            return self.end_as(after, error);
        }
        self.emit_run(CompensationPlanned { after, order: self.plan.compensation.order, steps, error });
    }

    /// Ends a run once all that it did is undone.
    pub(super) fn end_if_compensated(&mut self) {
        let Some(compensation) = &self.state.compensation else { return };
        let is_over = compensation.unsettled == 0 && self.state.children.is_empty();
        if is_over && self.state.phase == Phase::Compensating {
            self.end_as(compensation.after, None);
        }
    }

    fn end_as(&mut self, ending: Ending, error: Option<StepError>) {
        let compensation = self.state.compensation_outcome();
        match ending {
            Ending::Canceled => self.emit_run(RunCanceled { compensation, moved_to: None }),
            Ending::Failed => {
                let error = error.or_else(|| self.state.error.clone());
                let error = error.unwrap_or_else(|| StepError::new("internal", "a step failed"));
                self.emit_run(RunFailed { error, compensation });
            }
        }
    }

    /// The compensating steps, in the order in which they are to run.
    fn what_to_undo(&self, after: Ending) -> Vec<StepKey> {
        let spec = self.plan.compensation;
        let is_wanted = match after {
            Ending::Failed => spec.after_failure,
            Ending::Canceled => spec.after_cancel,
        };
        if !is_wanted && !self.state.must_compensate {
            return Vec::new();
        }
        let mut acted = self.state.acted.clone();
        match spec.order {
            CompensationOrder::Reverse if crate::planted("undone_in_the_wrong_order") => {}
            CompensationOrder::Reverse => acted.reverse(),
            CompensationOrder::Declared => {
                acted.sort_by_key(|key| (self.plan.written_at(key.node), key.item))
            }
            CompensationOrder::Parallel => {}
        }
        let undoing = |key: StepKey| self.plan.node(key).compensation.map(|node| key.beside(node));
        let first = usize::from(crate::planted("first_is_not_undone"));
        acted.into_iter().skip(first).filter_map(undoing).collect()
    }
}
