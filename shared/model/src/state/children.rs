//! The runs that this one has started: who waits for them, and who was asked to stop.

use serde::{Deserialize, Serialize};

use super::{Phase, RunState, WaitReason};
use crate::event::{ChildCancelRequested, ChildFinished, ChildStarted, RecallReason};
use crate::{Attempt, RunId, StepError, StepKey};

/// A run that a step has started and that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Which step has started it.
    pub step: StepKey,
    pub attempt: Attempt,
    /// Why it was asked to stop, once it was.
    pub recalled: Option<RecallReason>,
}

impl RunState {
    /// How many runs stand above this one.
    pub fn depth(&self) -> u32 {
        self.parent.as_ref().map_or(0, |parent| parent.depth)
    }

    /// Whether the step that started this child waits for it.
    pub fn waits_for(&self, run_id: RunId, child: &Child) -> bool {
        let wait = self.step(child.step).wait.as_ref();
        wait.is_some_and(|wait| wait.on == WaitReason::Child { run_id })
    }

    /// Whether this step waits for a run that it has started.
    pub(crate) fn waits_for_child(&self, key: StepKey) -> bool {
        let wait = self.step(key).wait.as_ref();
        wait.is_some_and(|wait| matches!(wait.on, WaitReason::Child { .. }))
    }

    /// Why this child must be asked to stop, if it must.
    pub(crate) fn recall_reason(&self, run_id: RunId, child: &Child) -> Option<RecallReason> {
        match (child.recalled, &self.phase) {
            (Some(_), _) => None,
            (None, Phase::Canceling) => Some(RecallReason::ParentCanceled),
            (None, Phase::Failing) => Some(RecallReason::ParentFailed),
            (None, _) if !self.waits_for(run_id, child) => Some(RecallReason::StepEnded),
            (None, _) => {
                let stops = self.fans.values().any(|fan| fan.stops == Some(child.step.node));
                stops.then_some(RecallReason::BranchFailed)
            }
        }
    }

    pub(super) fn owes_recall(&self) -> bool {
        self.children.iter().any(|(run_id, child)| self.recall_reason(*run_id, child).is_some())
    }

    pub(super) fn child_started(&mut self, key: StepKey, body: &ChildStarted) {
        let ChildStarted { run_id, until, .. } = *body;
        self.in_flight.remove(&key);
        let step = self.step_mut(key);
        step.child = Some(run_id);
        let attempt = step.attempt;
        self.children.insert(run_id, Child { step: key, attempt, recalled: None });
        self.wait(key, WaitReason::Child { run_id }, until);
    }

    /// What follows for its step says another event.
    pub(super) fn child_finished(&mut self, body: &ChildFinished) {
        self.children.remove(&body.run_id);
    }

    pub(super) fn child_recalled(&mut self, key: StepKey, body: &ChildCancelRequested) {
        if let Some(child) = self.children.get_mut(&body.run_id) {
            child.recalled = Some(body.because);
        }
        if self.step(key).child == Some(body.run_id) {
            self.leave_timer(key);
        }
        // From here on the run waits for its children alone, and not for a time that has passed.
        if body.because == RecallReason::ParentDeadline && !matches!(self.phase, Phase::Canceling) {
            self.error.get_or_insert_with(StepError::past_deadline);
            self.phase = Phase::Failing;
        }
    }
}
