//! What can move now: due timers, decided gates, taken signals, ready steps, and the end.

use serde_json::{Value, json};

use super::Tick;
use crate::event::{
    ApprovalExpired, Ending, ExpiryAction, RecallReason, RetryScheduled, RunCompleted, RunPaused, SkipReason,
    StepCanceled, StepFailed, StepSkipped, StepStarted, StepSucceeded, StepTimedOut, StepWaiting, Then,
    TimerFired, WaitingOn,
};
use crate::plan::{GateSpec, Role, WaitSpec};
use crate::state::{Gate, GateOutcome, Grant, Phase, WaitReason};
use crate::time::parse_duration;
use crate::workflow::excerpt;
use crate::workflow::expression::{Context, Template};
use crate::{Attempt, PauseReason, Payload, StepError, StepKey, StepStatus, Timestamp};

/// Attempts of one run that are in flight side by side; further ready steps wait for a place.
pub const IN_FLIGHT_MAX: usize = 256;

impl Tick<'_> {
    /// Moves the run as far as it goes without another outcome.
    pub(super) fn advance(&mut self) {
        loop {
            let before = self.events.len();
            if self.state.is_terminal() {
                return;
            }
            if self.is_stopping() {
                self.conclude();
                if self.is_stopping() || self.state.is_terminal() {
                    return;
                }
            }
            if self.state.is_held_back(self.now) {
                return;
            }
            self.fire_due_timers();
            if self.state.is_moving() {
                self.recall_children();
                self.conclude_gates();
                self.hand_out_signals();
                self.move_machine();
                self.begin_ready_steps();
                self.complete_if_settled();
                self.end_if_compensated();
            }
            if self.events.len() == before {
                return;
            }
        }
    }

    /// Nothing new may start: a cancel was accepted, a step's failure ends the run, or its time is over.
    pub(super) fn is_stopping(&self) -> bool {
        self.state.is_stopping(self.now)
    }

    /// Ends a run that is stopping, or begins to undo what it did, once nothing is in flight.
    fn conclude(&mut self) {
        self.recall_children();
        if !self.state.in_flight.is_empty() {
            return;
        }
        let open: Vec<StepKey> = (self.state.all_steps())
            .filter(|(_, step)| matches!(step.status, StepStatus::Waiting | StepStatus::Paused))
            .map(|(key, _)| key)
            .filter(|key| !self.state.waits_for_child(*key))
            .collect();
        for node in open {
            let attempt = self.state.open_attempt(self.plan, node);
            self.emit_step(node, attempt, StepCanceled {});
        }
        if self.state.children.is_empty() || crate::planted("parent_ends_before_its_children") {
            self.end_stopped();
        }
    }

    // ---- timers --------------------------------------------------------------------------------

    fn fire_due_timers(&mut self) {
        while self.state.is_moving()
            && let Some((at, node)) = self.state.timers.first().copied()
            && (at <= self.now || crate::planted("timer_fires_early"))
        {
            self.fire(node);
        }
    }

    fn fire(&mut self, node: StepKey) {
        let step = self.state.step(node);
        let attempt = step.attempt;
        match step.wait.as_ref().map(|wait| wait.on.clone()) {
            Some(WaitReason::Timer) => {
                self.emit_step(node, Some(attempt), TimerFired {});
                self.succeed(node, attempt, json!({ "woke_at": self.now }));
            }
            Some(WaitReason::Retry) => self.begin(node),
            Some(WaitReason::RateLimit) => self.start(node),
            Some(WaitReason::Child { run_id }) => self.recall(run_id, node, RecallReason::Timeout),
            Some(WaitReason::Signal { name }) => {
                let error = StepError::new("timeout", format!("no signal named `{name}` came in time"));
                self.time_out(node, attempt, error);
            }
            Some(WaitReason::Approval) => {
                let spec =
                    step.gate.as_ref().and_then(|gate| self.plan.node(node).spec_of(gate.rule.as_deref()));
                let action = spec.map_or(ExpiryAction::Reject, |spec| spec.on_timeout);
                let attempt = step.gate.as_ref().map(|gate| gate.attempt);
                self.emit_step(node, attempt, ApprovalExpired { action });
                if action == ExpiryAction::Escalate {
                    let message = format!("nobody decided about step `{}` in time", self.plan.label(node));
                    self.emit_run(RunPaused { reason: PauseReason::Escalated, message: Some(message) });
                }
            }
            // A timer without a wait cannot be: `apply` removes both together. Other nodes have their own time.
            None | Some(WaitReason::Fallback | WaitReason::Items) => {
                self.emit_step(node, Some(attempt), TimerFired {})
            }
        }
    }

    // ---- gates and signals ---------------------------------------------------------------------

    fn conclude_gates(&mut self) {
        for node in self.state.decided.clone() {
            let step = self.state.step(node);
            let Some(gate) = step.gate.as_ref().filter(|_| waits_at_gate(step.wait.as_ref())) else {
                continue;
            };
            let Some(outcome) = gate.outcome.clone() else { continue };
            let attempt = gate.attempt;
            let is_gate_node = matches!(self.plan.node(node).role, Role::Approval(_));
            match outcome {
                outcome if gate.rule.is_some() => self.conclude_escalation(node, attempt, outcome),
                GateOutcome::Granted | GateOutcome::Expired(ExpiryAction::Approve) if is_gate_node => {
                    let output = verdict_json(gate, &outcome);
                    self.succeed(node, attempt, output);
                }
                GateOutcome::Granted | GateOutcome::Expired(ExpiryAction::Approve) => self.start(node),
                GateOutcome::Rejected(by) => {
                    self.fail_without_runner(node, attempt, rejection(&by));
                }
                GateOutcome::Expired(_) => {
                    let error = StepError::new("timeout", "nobody approved in time");
                    self.time_out(node, attempt, error);
                }
            }
            if !self.state.is_moving() {
                return;
            }
        }
    }

    /// People were asked about a failure: they want another attempt, or they let the run fail.
    fn conclude_escalation(&mut self, node: StepKey, attempt: Attempt, outcome: GateOutcome) {
        match outcome {
            GateOutcome::Granted | GateOutcome::Expired(ExpiryAction::Approve) => {
                self.emit_step(node, None, RetryScheduled { at: self.now });
            }
            GateOutcome::Rejected(by) => {
                let (error, artifacts) = (rejection(&by), Vec::new());
                self.emit_step(node, Some(attempt), StepFailed { error, then: Then::Fail, artifacts });
            }
            GateOutcome::Expired(_) => {
                let error = StepError::new("timeout", "nobody decided about the failure in time");
                self.emit_step(node, Some(attempt), StepTimedOut { error, then: Then::Fail });
            }
        }
    }

    fn hand_out_signals(&mut self) {
        let names: Vec<String> = self
            .state
            .listening
            .keys()
            .filter(|name| self.state.signals.contains_key(*name))
            .cloned()
            .collect();
        for name in names {
            while let Some(node) = self.state.listening.get(&name).and_then(|nodes| nodes.first()).copied()
                && let Some(payload) = self.state.signals.get(&name).and_then(|queue| queue.front()).cloned()
            {
                let attempt = self.state.step(node).attempt;
                self.emit_step(node, Some(attempt), StepSucceeded { output: payload, artifacts: Vec::new() });
            }
        }
    }

    // ---- ready steps ---------------------------------------------------------------------------

    fn begin_ready_steps(&mut self) {
        while self.state.is_moving()
            && self.state.in_flight.len() < IN_FLIGHT_MAX
            && let Some(node) = self.state.ready.first().copied()
        {
            self.begin(node);
        }
    }

    /// Skips a step, sets it waiting, or starts it.
    fn begin(&mut self, node: StepKey) {
        if self.state.waits_for_items(node) {
            return self.conclude_items(node);
        }
        let step = self.state.step(node);
        if step.blocked {
            let reason = self.why_blocked(node);
            return self.emit_step(node, None, StepSkipped { reason });
        }
        let first_time = step.attempt == 0 && step.gate.is_none();
        let next = step.attempt + 1;
        if first_time && let Some(condition) = &self.plan.node(node).condition {
            match condition.is_true(&self.context(node)) {
                Ok(true) => {}
                Ok(false) => {
                    return self.emit_step(node, None, StepSkipped { reason: SkipReason::Condition });
                }
                Err(error) => return self.fail_without_runner(node, next, error),
            }
        }
        let plan = self.plan;
        match &plan.node(node).role {
            Role::Run
            | Role::Map(_)
            | Role::Workflow(_)
            | Role::Loop(_)
            | Role::Parallel(_)
            | Role::Join(_) => match &plan.node(node).gate {
                Some(spec) if !self.is_gate_open(node) => self.request_approval(node, next, spec),
                _ => self.start(node),
            },
            Role::Wait(spec) => match self.wake_time(node, spec) {
                Ok(until) => {
                    self.emit_step(
                        node,
                        Some(next),
                        StepWaiting { on: WaitingOn::Timer, until: Some(until) },
                    );
                }
                Err(error) => self.fail_without_runner(node, next, error),
            },
            Role::Signal { name, .. } => {
                let until = plan.node(node).timeout.map(|timeout| self.now.plus(timeout));
                self.emit_step(
                    node,
                    Some(next),
                    StepWaiting { on: WaitingOn::Signal { name: name.clone() }, until },
                );
            }
            Role::Approval(spec) => self.request_approval(node, next, spec),
        }
    }

    fn why_blocked(&self, node: StepKey) -> SkipReason {
        let branch = self.plan.node(node).needs.iter().any(|need| {
            let needed = self.state.step(need.node);
            let output = needed.output.value().map(|value| &**value);
            needed.status == StepStatus::Succeeded
                && self.plan.is_branch_not_taken(self.plan.node(need.node), output, node.node)
        });
        if branch { SkipReason::Branch } else { SkipReason::Need }
    }

    fn is_gate_open(&self, node: StepKey) -> bool {
        self.state.step(node).gate.as_ref().filter(|gate| gate.rule.is_none()).is_some_and(|gate| {
            matches!(gate.outcome, Some(GateOutcome::Granted | GateOutcome::Expired(ExpiryAction::Approve)))
        })
    }

    fn request_approval(&mut self, node: StepKey, attempt: Attempt, spec: &GateSpec) {
        let context = self.context(node);
        let auto = spec.auto_approve_if.as_ref().map(|condition| condition.is_true(&context)).transpose();
        let show = spec.show.as_ref().map(|show| show.render(&context)).transpose();
        let (auto, show) = match (auto, show) {
            (Ok(auto), Ok(show)) => (auto.unwrap_or(false), show.unwrap_or(Value::Null)),
            (Err(error), _) | (_, Err(error)) => return self.fail_without_runner(node, attempt, error),
        };
        match (auto, &self.plan.node(node).role) {
            (true, Role::Approval(_)) => {
                self.succeed(node, attempt, json!({ "decision": "auto_approved", "at": self.now }));
            }
            (true, _) => self.start(node),
            (false, _) => self.ask(node, attempt, spec, show, None),
        }
    }

    fn start(&mut self, node: StepKey) {
        match &self.plan.node(node).role {
            Role::Map(_) | Role::Loop(_) | Role::Parallel(_) => return self.find_items(node),
            Role::Join(spec) => return self.join(node, spec),
            _ => {}
        }
        let step = self.state.step(node);
        let attempt = step.attempt + 1;
        let key_attempt = (step.outcome_unknown && !crate::planted("lost_step_gets_another_key"))
            .then_some(step.key_attempt);
        self.emit_step(node, Some(attempt), StepStarted { key_attempt });
    }

    fn wake_time(&self, node: StepKey, spec: &WaitSpec) -> Result<Timestamp, StepError> {
        let render = |template: &Template| match template.render(&self.context(node))? {
            Value::String(text) => Ok(text),
            other => Err(StepError::new(
                "schema.input",
                format!("a wait needs text, not {}", excerpt(&other.to_string())),
            )),
        };
        match spec {
            WaitSpec::For(template) => {
                let text = render(template)?;
                let span = parse_duration(&text).map_err(|detail| StepError::new("schema.input", detail))?;
                Ok(self.now.plus(span))
            }
            WaitSpec::Until(template) => {
                let text = render(template)?;
                text.parse().map_err(|_| {
                    StepError::new(
                        "schema.input",
                        format!("`{}` is not a time such as 2027-01-31T09:00:00Z", excerpt(&text)),
                    )
                })
            }
        }
    }

    // ---- the end -------------------------------------------------------------------------------

    fn complete_if_settled(&mut self) {
        let machine = self.state.machine.as_ref();
        let goes_on = machine.is_some_and(|machine| !machine.state.is_done);
        let is_settled = self.state.unsettled == 0 && self.state.children.is_empty();
        if goes_on || !is_settled || !matches!(self.state.phase, Phase::Active) {
            return;
        }
        let output = match (machine, &self.plan.outputs) {
            (Some(machine), _) => self.machine_output(machine),
            (None, None) => Ok(Payload::null()),
            (None, Some(template)) => template.render(&Context::new(self.plan, self.state)).map(Payload::new),
        };
        match output {
            Ok(output) => self.emit_run(RunCompleted { output }),
            Err(error) => self.end_or_compensate(Ending::Failed, Some(error)),
        }
    }

    pub(super) fn succeed(&mut self, node: StepKey, attempt: Attempt, output: Value) {
        let output = Payload::new(output);
        self.emit_step(node, Some(attempt), StepSucceeded { output, artifacts: Vec::new() });
    }

    pub(super) fn context(&self, node: StepKey) -> Context<'_> {
        Context::new(self.plan, self.state).with_step(node)
    }
}

fn waits_at_gate(wait: Option<&crate::state::Wait>) -> bool {
    wait.is_some_and(|wait| matches!(wait.on, WaitReason::Approval))
}

/// The output of an approval node: who decided, when, and what they wrote.
fn verdict_json(gate: &Gate, outcome: &GateOutcome) -> Value {
    let decision = if *outcome == GateOutcome::Granted { "approved" } else { "expired" };
    let last = gate.grants.last();
    json!({
        "decision": decision,
        "by": gate.grants.iter().map(|grant| grant.by.id()).collect::<Vec<_>>(),
        "at": last.map(|grant| grant.at),
        "comment": last.and_then(|grant| grant.comment.as_deref()),
        "form": last.and_then(|grant| grant.form.value()).map(|form| (**form).clone()),
    })
}

fn rejection(by: &Grant) -> StepError {
    let comment = by.comment.as_deref().map(|comment| format!(": {comment}")).unwrap_or_default();
    StepError::new("rejected", format!("rejected by {}{comment}", by.by.id()))
        .with_details(json!({ "by": by.by.id(), "at": by.at, "comment": by.comment, "form": by.form.value().map(|form| (**form).clone()) }))
}
