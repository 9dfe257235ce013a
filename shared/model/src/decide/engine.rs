//! What an engine finds when it takes a run, and what its runners bring back.

use super::Tick;
use crate::command::Outcome;
use crate::event::{
    RetryScheduled, RunPaused, RunQuarantined, StepCanceled, StepFailed, StepLost, StepPaused, StepSucceeded,
    StepTimedOut, Then,
};
use crate::plan::ErrorAction;
use crate::state::Phase;
use crate::workflow::expression::Context;
use crate::{Attempt, NodeIndex, PauseReason, Payload, StepError};

/// A run that was there when so many engines in a row died is set aside for a person.
pub const DEATHS_MAX: u32 = 3;

impl Tick<'_> {
    /// This engine has just claimed the run: what was in flight is lost.
    pub(super) fn taken(&mut self) {
        let quarantined = self.state.deaths >= DEATHS_MAX;
        let interrupted = self.lose_in_flight(!quarantined);
        let undisturbed = matches!(self.state.phase, Phase::Active | Phase::Paused { .. });
        if quarantined && undisturbed {
            self.emit_run(RunQuarantined { deaths: self.state.deaths });
        } else if interrupted && undisturbed {
            self.pause_interrupted();
        }
    }

    /// This engine stops: what is in flight is given up.
    pub(super) fn drain(&mut self) {
        let interrupted = self.lose_in_flight(true);
        if interrupted && matches!(self.state.phase, Phase::Active | Phase::Paused { .. }) {
            self.pause_interrupted();
        }
    }

    /// True when a step that must not be repeated was among them.
    fn lose_in_flight(&mut self, may_retry: bool) -> bool {
        let mut interrupted = false;
        for node in self.state.in_flight.clone() {
            let retry = may_retry && self.plan.node(node).retry_safe;
            interrupted |= !retry;
            let attempt = self.state.step(node).attempt;
            self.emit_step(node, Some(attempt), StepLost { retry });
        }
        interrupted
    }

    fn pause_interrupted(&mut self) {
        let steps: Vec<&str> =
            self.state.paused_steps.iter().map(|node| self.plan.node(*node).id.as_str()).collect();
        let message = format!(
            "the engine stopped while {} was in flight; whether it was done is unknown",
            steps.join(", ")
        );
        self.emit_run(RunPaused { reason: PauseReason::EngineInterrupted, message: Some(message) });
    }

    /// A runner returned. What comes from an attempt that is no longer open is ignored.
    pub(super) fn outcome(&mut self, node: NodeIndex, attempt: Attempt, outcome: Outcome) {
        if !self.state.in_flight.contains(&node) || self.state.step(node).attempt != attempt {
            return;
        }
        match outcome {
            Outcome::Succeeded { output, artifacts, emit } => {
                if let Some(emitted) = emit {
                    self.emit_step(node, None, emitted);
                }
                self.emit_step(node, Some(attempt), StepSucceeded { output, artifacts });
            }
            Outcome::Failed { error, artifacts } => {
                self.fail(node, attempt, error, |error, then| StepFailed { error, then, artifacts });
            }
            Outcome::TimedOut { error } => self.time_out(node, attempt, error),
            Outcome::Canceled if self.is_stopping() => {
                self.emit_step(node, Some(attempt), StepCanceled {});
            }
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

    pub(super) fn time_out(&mut self, node: NodeIndex, attempt: Attempt, error: StepError) {
        self.fail(node, attempt, error, |error, then| StepTimedOut { error, then });
    }

    /// Fails a step that no runner has worked on.
    pub(super) fn fail_without_runner(&mut self, node: NodeIndex, attempt: Attempt, error: StepError) {
        self.fail(node, attempt, error, |error, then| StepFailed { error, then, artifacts: Vec::new() });
    }

    /// An attempt failed for sure: retry it, or do what the definition says.
    fn fail<E: Into<crate::EventBody>>(
        &mut self,
        node: NodeIndex,
        attempt: Attempt,
        error: StepError,
        event: impl FnOnce(StepError, Then) -> E,
    ) {
        if self.is_stopping() {
            self.emit_step(node, Some(attempt), event(error, Then::Fail));
            return;
        }
        let spec = self.plan.node(node);
        let failures = self.state.step(node).failures + 1;
        let pause = spec.retry.pause_before_next(self.state.run_id, &spec.id, attempt, failures, &error);
        if let Some(pause) = pause {
            let at = self.now.plus(pause);
            self.emit_step(node, Some(attempt), event(error, Then::Retry));
            self.emit_step(node, None, RetryScheduled { at });
            return;
        }
        let (error, then) = self.route(node, error);
        let pauses = then == Then::Pause;
        let message = format!("step `{}` failed: {}", spec.id, error.message);
        self.emit_step(node, Some(attempt), event(error, then));
        if pauses {
            self.emit_step(node, None, StepPaused {});
            if matches!(self.state.phase, Phase::Active) {
                self.emit_run(RunPaused { reason: PauseReason::StepFailed, message: Some(message) });
            }
        }
    }

    /// The first error rule that matches decides; none means pause.
    fn route(&self, node: NodeIndex, error: StepError) -> (StepError, Then) {
        let rules = &self.plan.node(node).on_error;
        let rule = rules.iter().find(|rule| rule.patterns.iter().any(|pattern| error.matches(pattern)));
        match rule.map(|rule| &rule.action) {
            None | Some(ErrorAction::Pause) => (error, Then::Pause),
            Some(ErrorAction::Fail) => (error, Then::Fail),
            Some(ErrorAction::Continue(None)) => (error, Then::Continue { output: Payload::null() }),
            Some(ErrorAction::Continue(Some(template))) => {
                let context = Context::new(self.plan, self.state).with_node(node).with_error(&error);
                match template.render(&context) {
                    Ok(output) => (error, Then::Continue { output: Payload::new(output) }),
                    // The way out is itself broken: a person has to look.
                    Err(broken) => (broken, Then::Pause),
                }
            }
        }
    }
}
