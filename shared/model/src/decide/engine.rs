//! What an engine finds when it takes a run, and what its runners bring back.

use serde_json::json;

use super::Tick;
use crate::callee::violated;
use crate::command::Outcome;
use crate::concurrency::OnConflict;
use crate::event::{
    Artifact, PlaceAwaited, RunDeferred, RunFailed, RunPaused, RunQuarantined, StepCanceled, StepDeferred,
    StepFailed, StepLost, StepSucceeded,
};
use crate::rate_limit::{self, Turn};
use crate::state::Phase;
use crate::workflow::schema::Violation;
use crate::{Attempt, PauseReason, RunId, StepError, StepKey};

/// A run that was there when so many engines in a row died is set aside for a person.
pub const DEATHS_MAX: u32 = 3;

/// Holders of a group that one event names.
pub const HOLDERS_NAMED_MAX: usize = 10;

/// Interrupted steps that one sentence names: a fan-out may have hundreds of them.
const INTERRUPTED_NAMED_MAX: usize = 10;

impl Tick<'_> {
    /// This engine has just claimed the run: what was in flight is lost.
    pub(super) fn taken(&mut self) {
        let quarantined = self.state.deaths >= DEATHS_MAX && !crate::planted("never_quarantined");
        let interrupted = self.lose_in_flight(!quarantined);
        let undisturbed = self.is_undisturbed();
        if quarantined && undisturbed {
            self.emit_run(RunQuarantined { deaths: self.state.deaths });
        } else if interrupted && undisturbed {
            self.pause_interrupted();
        }
    }

    /// There is no place in the group: the run waits for its turn, or ends as its definition has it.
    pub(super) fn await_place(&mut self, mut held_by: Vec<RunId>) {
        if !self.state.asks_for_place(self.now) {
            return;
        }
        let group = self.state.group.as_ref().map(|group| (group.name.clone(), group.on_conflict));
        match group {
            Some((name, OnConflict::Reject)) => {
                let sentence = format!("the concurrency group `{name}` is full");
                let error = StepError::new("group.occupied", sentence);
                let error = error.with_details(json!({ "group": name, "held_by": held_by }));
                self.emit_run(RunFailed { error, compensation: None });
            }
            _ => {
                held_by.truncate(HOLDERS_NAMED_MAX);
                self.emit_run(PlaceAwaited { held_by });
            }
        }
    }

    /// The run may start now, or later, or ends as its definition has it.
    pub(super) fn take_turn(&mut self, turn: Turn) {
        if !self.state.asks_for_turn(self.plan, self.now) {
            return;
        }
        match turn {
            Turn::Now => {}
            Turn::At(_) if crate::planted("run_does_not_wait_for_its_turn") => {}
            Turn::At(until) => self.emit_run(RunDeferred { until }),
            Turn::Refused { retry_after } => {
                let error = rate_limit::refused(&format!("runs of `{}` start", self.plan.name), retry_after);
                self.emit_run(RunFailed { error, compensation: None });
            }
        }
    }

    /// This engine stops: what is in flight is given up.
    pub(super) fn drain(&mut self) {
        let interrupted = self.lose_in_flight(true);
        if interrupted && self.is_undisturbed() {
            self.pause_interrupted();
        }
    }

    /// Whether a pause would be heeded: the run is not about to end.
    fn is_undisturbed(&self) -> bool {
        self.state.is_moving() || matches!(self.state.phase, Phase::Paused { .. })
    }

    /// True when a step that must not be repeated was among them.
    fn lose_in_flight(&mut self, may_retry: bool) -> bool {
        let mut interrupted = false;
        for node in self.state.in_flight.clone() {
            let retry =
                may_retry && (self.plan.node(node).retry_safe || crate::planted("unsafe_step_repeated"));
            interrupted |= !retry;
            let attempt = self.state.step(node).attempt;
            self.emit_step(node, Some(attempt), StepLost { retry });
        }
        interrupted
    }

    fn pause_interrupted(&mut self) {
        let paused = &self.state.paused_steps;
        let mut steps: Vec<_> =
            paused.iter().take(INTERRUPTED_NAMED_MAX).map(|key| self.plan.label(*key)).collect();
        if paused.len() > steps.len() {
            steps.push("…".into());
        }
        let message = format!(
            "the engine stopped while {} was in flight; whether it was done is unknown",
            steps.join(", ")
        );
        self.emit_run(RunPaused { reason: PauseReason::EngineInterrupted, message: Some(message) });
    }

    /// A runner returned. What comes from an attempt that is no longer open is ignored.
    pub(super) fn outcome(&mut self, node: StepKey, attempt: Attempt, outcome: Outcome) {
        if !self.state.in_flight.contains(&node) || self.state.step(node).attempt != attempt {
            return;
        }
        self.take_outcome(node, attempt, outcome);
    }

    /// The open attempt of a step has come to this.
    pub(super) fn take_outcome(&mut self, node: StepKey, attempt: Attempt, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded { output, artifacts, emit } => {
                let broken = output.value().map(|output| self.plan.node(node).violations(output));
                if let Some(broken) = broken.filter(|broken| !broken.is_empty()) {
                    return self.fail_by_schema(node, attempt, &broken, artifacts);
                }
                if let Some(emitted) = emit {
                    self.emit_step(node, None, emitted);
                }
                self.emit_step(node, Some(attempt), StepSucceeded { output, artifacts });
            }
            Outcome::Failed { error, artifacts } => {
                self.fail(node, attempt, error, |error, then| StepFailed { error, then, artifacts });
            }
            Outcome::TimedOut { error } => self.time_out(node, attempt, error),
            // What has not begun is not begun any more.
            Outcome::Canceled | Outcome::Called(_) | Outcome::Deferred { .. } if self.is_stopping() => {
                self.emit_step(node, Some(attempt), StepCanceled {});
            }
            Outcome::Called(child) => self.call(node, attempt, child),
            Outcome::Deferred { until } => self.emit_step(node, Some(attempt), StepDeferred { until }),
            Outcome::Canceled => {
                let error = StepError::new("canceled", "the runner stopped without being asked to");
                self.fail(node, attempt, error, |error, then| StepFailed {
                    error,
                    then,
                    artifacts: Vec::new(),
                });
            }
        }
    }

    /// The deed is done, but what came of it is not what the definition promises to those who read it.
    fn fail_by_schema(
        &mut self,
        node: StepKey,
        attempt: Attempt,
        broken: &[Violation],
        artifacts: Vec<Artifact>,
    ) {
        let error = violated("schema.output", "output", broken);
        self.fail(node, attempt, error, |error, then| StepFailed { error, then, artifacts });
    }
}
