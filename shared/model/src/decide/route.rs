//! What follows from a failure: another attempt, what an error rule says, or a pause for a person.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use super::Tick;
use crate::event::{
    ApprovalRequested, ErrorRouted, RetryScheduled, RuleAction, RunPaused, StepFailed, StepPaused,
    StepTimedOut, Then,
};
use crate::plan::{ErrorAction, ErrorRule, GateSpec, Part};
use crate::state::Step;
use crate::workflow::expression::{Context, Template};
use crate::{Attempt, Digest, EventBody, PauseReason, Payload, StepError, StepKey, Timestamp, planted};

/// Between two looks for somebody who is away: an eighth of the time they have been, within these bounds. So whoever comes back
/// is found soon, and a long absence costs few attempts.
const LOOK_AGAIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5 * 60);
const LOOKS_WHILE_AS_LONG: u32 = 8;

/// A failure's way on.
struct Route<'p> {
    error: StepError,
    then: Then,
    /// The rule that fired, and what it came to.
    by: Option<(&'p ErrorRule, RuleAction)>,
    next: Next<'p>,
}

/// What must be written after the failure itself.
enum Next<'p> {
    Nothing,
    Retry(Timestamp),
    Pause,
    /// People are asked, and shown this.
    Ask(&'p GateSpec, Value),
}

impl<'a> Tick<'a> {
    pub(super) fn time_out(&mut self, node: StepKey, attempt: Attempt, error: StepError) {
        self.fail(node, attempt, error, |error, then| StepTimedOut { error, then });
    }

    /// Fails a step that no runner has worked on.
    pub(super) fn fail_without_runner(&mut self, node: StepKey, attempt: Attempt, error: StepError) {
        self.fail(node, attempt, error, |error, then| StepFailed { error, then, artifacts: Vec::new() });
    }

    /// An attempt failed for sure: retry it, or do what the definition says.
    pub(super) fn fail<E: Into<EventBody>>(
        &mut self,
        node: StepKey,
        attempt: Attempt,
        error: StepError,
        event: impl FnOnce(StepError, Then) -> E,
    ) {
        if self.is_stopping() {
            self.emit_step(node, Some(attempt), event(error, Then::Fail));
            return;
        }
        let message = format!("step `{}` failed: {}", self.plan.label(node), error.message);
        let Route { error, then, by, next } = self.route(node, attempt, error);
        self.emit_step(node, Some(attempt), event(error, then));
        if let Some((rule, action)) = by {
            self.emit_step(node, Some(attempt), ErrorRouted { rule: rule.pointer.clone(), action });
        }
        match next {
            Next::Nothing => {}
            Next::Retry(at) => self.emit_step(node, None, RetryScheduled { at }),
            Next::Pause => {
                self.emit_step(node, None, StepPaused {});
                let undoes = matches!(self.plan.node(node).part, Part::Compensation { .. });
                let reason = if undoes { PauseReason::CompensationFailed } else { PauseReason::StepFailed };
                self.pause_for(reason, message);
            }
            Next::Ask(spec, show) => {
                let rule = by.map(|(rule, _)| rule.pointer.clone());
                self.ask(node, attempt + 1, spec, show, rule);
                let who = if spec.any_of.is_empty() { "anybody".to_owned() } else { spec.any_of.join(", ") };
                self.pause_for(PauseReason::Escalated, format!("{message}; {who} may decide"));
            }
        }
    }

    /// Opens a gate.
    pub(super) fn ask(
        &mut self,
        node: StepKey,
        attempt: Attempt,
        spec: &GateSpec,
        show: Value,
        rule: Option<String>,
    ) {
        let digest = Digest::of(show.to_string().as_bytes());
        let expires_at = spec.timeout.map(|timeout| self.now.plus(timeout));
        let show = Payload::new(show);
        self.emit_step(node, Some(attempt), ApprovalRequested { show, digest, expires_at, rule });
    }

    /// A run that a person looks at already keeps its first reason.
    fn pause_for(&mut self, reason: PauseReason, message: String) {
        if self.state.is_moving() {
            self.emit_run(RunPaused { reason, message: Some(message) });
        }
    }

    /// The node's own retries come first, then the state that invoked it; then the first rule that matches
    /// decides; none means pause. An item is counted instead: what follows is said at the step whose item it is.
    fn route(&self, node: StepKey, attempt: Attempt, error: StepError) -> Route<'a> {
        let plan = self.plan;
        let spec = plan.node(node);
        let failures = self.state.step(node).failures + 1;
        let label = plan.label(node);
        let pause = spec.retry.pause_before_next(self.state.run_id, &label, attempt, failures, &error);
        if let Some(pause) = pause {
            let next = Next::Retry(self.now.plus(pause));
            return Route { error, then: Then::Retry, by: None, next };
        }
        if self.machine_takes(node.node, &error) {
            let then = Then::Continue { output: Payload::null() };
            return Route { error, then, by: None, next: Next::Nothing };
        }
        for rule in spec.on_error.iter().filter(|rule| rule.matches(&error)) {
            let again = match &rule.action {
                ErrorAction::Retry(policy) => {
                    let run = self.state.run_id;
                    let pause = policy.pause_before_next(run, &label, attempt, failures, &error);
                    Some((RuleAction::Retry, pause))
                }
                ErrorAction::WaitForAgent(patience) => {
                    let away = failing_since(self.state.step(node), rule, self.now).until(self.now);
                    Some((RuleAction::WaitForAgent, pause_while_away(away, *patience)))
                }
                _ => None,
            };
            if let Some((action, pause)) = again {
                // Used up: what comes after it decides.
                let Some(pause) = pause else { continue };
                let (by, next) = (Some((rule, action)), Next::Retry(self.now.plus(pause)));
                return Route { error, then: Then::Retry, by, next };
            }
            return match self.obey(node, &rule.action, &error) {
                Ok((then, action, next)) => Route { error, then, by: Some((rule, action)), next },
                // The way out is itself broken: a person has to look.
                Err(broken) => {
                    let by = Some((rule, RuleAction::Pause));
                    Route { error: broken, then: Then::Pause, by, next: Next::Pause }
                }
            };
        }
        if matches!(spec.part, Part::Item { .. }) {
            return Route { error, then: Then::Count, by: None, next: Next::Nothing };
        }
        Route { error, then: Then::Pause, by: None, next: Next::Pause }
    }

    /// What a rule's action comes to, once its expressions are evaluated.
    fn obey(
        &self,
        node: StepKey,
        action: &'a ErrorAction,
        error: &StepError,
    ) -> Result<(Then, RuleAction, Next<'a>), StepError> {
        let context = Context::new(self.plan, self.state).with_step(node).with_error(error);
        let render = |template: &Template| template.render(&context);
        Ok(match action {
            // Whoever gets here has asked for another attempt before.
            ErrorAction::Pause | ErrorAction::Retry(_) | ErrorAction::WaitForAgent(_) => {
                (Then::Pause, RuleAction::Pause, Next::Pause)
            }
            ErrorAction::Fail => (Then::Fail, RuleAction::Fail, Next::Nothing),
            ErrorAction::Compensate => (Then::Compensate, RuleAction::Compensate, Next::Nothing),
            ErrorAction::Skip => (Then::Skip, RuleAction::Skip, Next::Nothing),
            ErrorAction::Continue(template) => {
                let output = template.as_ref().map(render).transpose()?.map(Payload::new).unwrap_or_default();
                (Then::Continue { output }, RuleAction::Continue, Next::Nothing)
            }
            ErrorAction::Fallback(None) => (Then::Fallback, RuleAction::Fallback, Next::Nothing),
            ErrorAction::Fallback(Some(template)) => {
                let output = Payload::new(render(template)?);
                (Then::Substitute { output }, RuleAction::Fallback, Next::Nothing)
            }
            ErrorAction::Escalate(spec) => {
                let show = match &spec.show {
                    Some(show) => render(show)?,
                    None => json!({ "error": error }),
                };
                (Then::Escalate, RuleAction::Escalate, Next::Ask(spec, show))
            }
        })
    }
}

/// Since when this rule was the one that matched.
fn failing_since(step: &Step, rule: &ErrorRule, now: Timestamp) -> Timestamp {
    let failures =
        step.attempts.iter().rev().filter_map(|record| Some((record.ended_at, record.error.as_ref()?)));
    let count = if planted("patience_is_not_renewed") { usize::MAX } else { step.failures.into() };
    let of_late = failures.take(count).take_while(|(_, error)| rule.matches(error));
    of_late.last().map_or(now, |(ended_at, _)| ended_at)
}

/// The last look comes when the patience ends; none: it has ended.
fn pause_while_away(away: Duration, patience: Duration) -> Option<Duration> {
    let (shortest, longest) = LOOK_AGAIN.into_inner();
    let patience = if planted("patience_without_end") { Duration::MAX } else { patience };
    let left = patience.checked_sub(away).filter(|left| !left.is_zero())?;
    let pause = if planted("absent_are_asked_for_too_often") { shortest } else { away / LOOKS_WHILE_AS_LONG };
    Some(pause.clamp(shortest, longest).min(left))
}
