//! What people may do to a run, by its status.

use serde_json::{Map, Value};

use super::Tick;
use crate::command::{Command, Rejection, RejectionCode, Verdict};
use crate::event::{
    ApprovalGranted, ApprovalRejected, CancelRequested, RetryScheduled, RunPaused, RunResumed,
    SignalReceived, SkipReason, StepSkipped,
};
use crate::plan::{Node, Role};
use crate::state::{Gate, Phase, WaitReason};
use crate::workflow::schema::Violation;
use crate::{Actor, Attempt, NodeIndex, PauseReason, Plan, RunState, RunStatus, StepKey, StepStatus};

/// Signals of one run that no step has taken yet.
pub const SIGNALS_BUFFERED_MAX: usize = 1_000;

impl Tick<'_> {
    /// Every (status, command) pair is answered here; `docs/state-machine.md` is printed from it.
    pub(super) fn command(&mut self, command: Command, actor: &Actor) -> Result<(), Rejection> {
        use Command as C;
        use RunStatus as S;
        let status = self.state.status(false);
        let failing = matches!(self.state.phase, Phase::Failing);
        // Also while it is paused in the middle of that.
        let compensating = self.state.compensation.is_some();
        match (status, command) {
            // A decided gate says so, whatever became of the run.
            (_, C::Approve(verdict) | C::Reject(verdict)) if self.is_decided(&verdict) => {
                Err(self.refuse(RejectionCode::AlreadyDecided, "this approval was decided before"))
            }
            (S::Completed, C::Cancel { .. }) if crate::planted("ended_run_accepts_a_cancel") => Ok(()),
            (S::Completed | S::Failed | S::Canceled, command) => Err(self.refuse(
                RejectionCode::RunTerminal,
                format!("the run has ended as {}; {} cannot change it", status.as_str(), command.name()),
            )),
            (S::Canceling, command) => Err(self.wrong_state(&command, "is being canceled")),

            // A cancel would bring about no more than what is happening; what cannot be undone is skipped.
            (S::Compensating | S::Paused, command @ (C::Cancel { .. } | C::Signal { .. }))
                if compensating =>
            {
                Err(self.wrong_state(&command, "is undoing what it did"))
            }
            (_, C::Cancel { reason }) => {
                self.emit_run(CancelRequested { reason });
                Ok(())
            }
            (_, command) if failing => Err(self.wrong_state(&command, "is about to fail")),

            (S::Paused, command @ C::Pause) => Err(self.wrong_state(&command, "is paused already")),
            (S::Queued | S::Running | S::Waiting | S::Compensating, C::Pause) => {
                self.emit_run(RunPaused { reason: PauseReason::Requested, message: None });
                Ok(())
            }
            (S::Paused, C::Resume) => {
                self.emit_run(RunResumed {});
                Ok(())
            }
            (S::Queued | S::Running | S::Waiting | S::Compensating, command @ C::Resume) => {
                Err(self.wrong_state(&command, "is not paused"))
            }

            (S::Paused | S::Queued | S::Running | S::Waiting | S::Compensating, C::Approve(verdict)) => {
                let (node, attempt) = self.check_verdict(&verdict, actor, "approve")?;
                let Verdict { comment, form, .. } = verdict;
                self.emit_step(node, Some(attempt), ApprovalGranted { comment, form });
                self.resume_if_decided();
                Ok(())
            }
            (S::Paused | S::Queued | S::Running | S::Waiting | S::Compensating, C::Reject(verdict)) => {
                let (node, attempt) = self.check_verdict(&verdict, actor, "reject")?;
                let Verdict { comment, form, .. } = verdict;
                self.emit_step(node, Some(attempt), ApprovalRejected { comment, form });
                self.resume_if_decided();
                Ok(())
            }

            (S::Paused, C::Retry { node: None }) => self.retry_all(),
            (S::Queued | S::Running | S::Waiting | S::Compensating, command @ C::Retry { node: None }) => {
                Err(self.wrong_state(&command, "is not paused"))
            }
            (
                S::Paused | S::Queued | S::Running | S::Waiting | S::Compensating,
                C::Retry { node: Some(node) } | C::Skip { node },
            ) if !self.state.is_in_play(self.plan, node) => {
                Err(self.wrong_step_state(node, "can be retried or skipped while the run may come to it"))
            }
            (
                S::Paused | S::Queued | S::Running | S::Waiting | S::Compensating,
                C::Retry { node: Some(node) },
            ) => self.retry_one(node),
            (S::Paused | S::Queued | S::Running | S::Waiting | S::Compensating, C::Skip { node }) => {
                self.skip(node)
            }
            (
                S::Paused | S::Queued | S::Running | S::Waiting | S::Compensating,
                C::Signal { name, payload },
            ) => {
                self.check_signal(&name, &payload)?;
                self.emit_run(SignalReceived { name, payload });
                Ok(())
            }

            (S::Compensating | S::Paused, command @ (C::Edit { .. } | C::Move { .. })) if compensating => {
                Err(self.wrong_state(&command, "is undoing what it did"))
            }
            (S::Paused, C::Edit { outputs, context }) => self.edit(outputs, context),
            (S::Paused, C::Move { to }) => self.move_to(to),
            (
                S::Queued | S::Running | S::Waiting | S::Compensating,
                command @ (C::Edit { .. } | C::Move { .. }),
            ) => Err(self.wrong_state(&command, "is not paused")),
        }
    }

    fn is_decided(&self, verdict: &Verdict) -> bool {
        self.state
            .step(verdict.node)
            .gate
            .as_ref()
            .is_some_and(|gate| gate.attempt == verdict.attempt && gate.outcome.is_some())
    }

    fn check_verdict(
        &self,
        verdict: &Verdict,
        actor: &Actor,
        verb: &str,
    ) -> Result<(NodeIndex, u16), Rejection> {
        let node = self.plan.node(verdict.node);
        let step = self.state.step(verdict.node);
        // A step that was skipped or canceled still has its gate, and waits for nothing.
        let waits = step.wait.as_ref().is_some_and(|wait| wait.on == WaitReason::Approval);
        let gate = step.gate.as_ref().filter(|_| waits);
        let (Some(gate), Some(spec)) = (gate, gate.and_then(|gate| node.spec_of(gate.rule.as_deref())))
        else {
            let code = match self.state.phase {
                Phase::Paused { .. } => RejectionCode::WrongState,
                _ => RejectionCode::StaleApproval,
            };
            return Err(self.refuse(code, format!("step `{}` does not wait for an approval", node.id)));
        };
        if gate.attempt != verdict.attempt && !crate::planted("approval_of_another_attempt") {
            let sentence = format!(
                "step `{}` waits for an approval of attempt {}, not {}",
                node.id, gate.attempt, verdict.attempt
            );
            return Err(self.refuse(RejectionCode::StaleApproval, sentence));
        }
        if verdict.digest.as_ref().is_some_and(|digest| *digest != gate.digest) {
            let sentence = format!("what step `{}` shows is not what this approval was given for", node.id);
            return Err(self.refuse(RejectionCode::StaleApproval, sentence));
        }
        if spec.exclude_requester && actor.id() == self.state.requester.id() {
            let sentence = format!("{} created this run and may not {verb} it", actor.id());
            return Err(self.refuse(RejectionCode::NotAnApprover, sentence));
        }
        if !spec.any_of.is_empty() && !spec.any_of.iter().any(|entry| actor.matches(entry)) {
            let sentence = format!("{} is not one of {}", actor.id(), spec.any_of.join(", "));
            return Err(self.refuse(RejectionCode::NotAnApprover, sentence));
        }
        if gate.grants.iter().any(|grant| grant.by.id() == actor.id()) {
            let sentence = format!("{} has approved this already; another person must", actor.id());
            return Err(self.refuse(RejectionCode::AlreadyDecided, sentence));
        }
        if let (Some(schema), Some(form)) = (&spec.form, verdict.form.value())
            && !(verb == "reject" && form.is_null())
        {
            // An approval without a form is one with an empty form: what is required is still missing.
            let empty = Value::Object(Map::new());
            let form = if form.is_null() { &empty } else { &**form };
            self.check_schema("form", "/form", schema.check(form))?;
        }
        Ok((verdict.node, gate.attempt))
    }

    fn check_signal(&self, name: &str, payload: &crate::Payload) -> Result<(), Rejection> {
        if let (Some(plan), Some(machine)) = (&self.plan.machine, &self.state.machine)
            && let Some(schema) = plan.events.get(name)
        {
            self.check_buffer(machine.inbox.len())?;
            // An event without a payload is one with an empty payload.
            let empty = Value::Object(Map::new());
            let value =
                payload.value().map_or(&empty, |value| if value.is_null() { &empty } else { &**value });
            if !value.is_object() {
                let detail = "what an event of a machine brings is an object".to_owned();
                return self.check_schema("payload", "", vec![Violation { pointer: String::new(), detail }]);
            }
            return schema
                .as_ref()
                .map_or(Ok(()), |schema| self.check_schema("payload", "", schema.check(value)));
        }
        let mut listeners = self.plan.nodes.iter().filter_map(|node| match &node.role {
            Role::Signal { name: theirs, schema } if theirs == name => Some((node.index, schema)),
            _ => None,
        });
        let Some((_, schema)) = listeners.find(|(index, _)| !self.state.step(*index).status.is_settled())
        else {
            let sentence = format!("no step of this run waits, or will wait, for a signal named `{name}`");
            return Err(self.refuse(RejectionCode::UnknownSignal, sentence));
        };
        self.check_buffer(self.state.signals.values().map(std::collections::VecDeque::len).sum())?;
        match (schema, payload.value()) {
            (Some(schema), Some(value)) => self.check_schema("payload", "", schema.check(value)),
            _ => Ok(()),
        }
    }

    fn check_buffer(&self, waiting: usize) -> Result<(), Rejection> {
        if waiting >= SIGNALS_BUFFERED_MAX {
            let sentence = format!("{SIGNALS_BUFFERED_MAX} signals wait already to be taken");
            return Err(self.refuse(RejectionCode::SignalBufferFull, sentence));
        }
        Ok(())
    }

    /// `at` is where the value stands in what was sent.
    pub(super) fn check_schema(
        &self,
        what: &str,
        at: &str,
        mut violations: Vec<Violation>,
    ) -> Result<(), Rejection> {
        if violations.is_empty() {
            return Ok(());
        }
        violations.iter_mut().for_each(|it| it.pointer.insert_str(0, at));
        let sentence = format!("the {what} does not fit its schema");
        Err(Rejection { violations, ..self.refuse(RejectionCode::InvalidPayload, sentence) })
    }

    /// Every step that a person must decide about is tried again.
    fn retry_all(&mut self) -> Result<(), Rejection> {
        if self.state.paused_steps.is_empty() {
            let sentence = "no step has failed or was interrupted; resume the run instead";
            return Err(self.refuse(RejectionCode::WrongState, sentence));
        }
        self.emit_run(RunResumed {});
        Ok(())
    }

    fn retry_one(&mut self, node: StepKey) -> Result<(), Rejection> {
        let step = self.state.step(node);
        let between_attempts = step.wait.as_ref().is_some_and(|wait| matches!(wait.on, WaitReason::Retry));
        if step.status != StepStatus::Paused && !between_attempts {
            return Err(self.wrong_step_state(node, "can be retried when it is paused or between attempts"));
        }
        self.emit_step(node, None, RetryScheduled { at: self.now });
        self.resume_if_nothing_is_left();
        Ok(())
    }

    fn skip(&mut self, node: StepKey) -> Result<(), Rejection> {
        let step = self.state.step(node);
        if self.state.has_fallen_back(node) {
            return Err(
                self.wrong_step_state(node, "that has fallen back ends as its fallback does: skip that")
            );
        }
        if self.state.waits_for_items(node) {
            return Err(self.wrong_step_state(node, "whose items run ends as they do: skip those"));
        }
        let is_idle = self.is_idle(node.node);
        if is_idle || !matches!(step.status, StepStatus::Paused | StepStatus::Waiting | StepStatus::Pending) {
            return Err(
                self.wrong_step_state(node, "can be skipped while it has not ended and is not running")
            );
        }
        let attempt = self.state.open_attempt(self.plan, node);
        self.emit_step(node, attempt, StepSkipped { reason: SkipReason::Command });
        self.resume_if_nothing_is_left();
        self.resume_if_decided();
        Ok(())
    }

    /// A run that paused only because of its steps goes on once the last of them was decided about.
    fn resume_if_nothing_is_left(&mut self) {
        let because_of_steps = matches!(
            self.state.pause_reason(),
            Some(PauseReason::StepFailed | PauseReason::EngineInterrupted | PauseReason::CompensationFailed)
        );
        if because_of_steps && self.state.paused_steps.is_empty() {
            self.emit_run(RunResumed {});
        }
    }

    /// A run that paused only to have people decide goes on once they have.
    fn resume_if_decided(&mut self) {
        if self.state.pause_reason() != Some(PauseReason::Escalated) || !self.state.paused_steps.is_empty() {
            return;
        }
        let is_escalated = |gate: &Gate, node: &Node| {
            let has_expired = gate.expires_at.is_none()
                && node.spec_of(gate.rule.as_deref()).is_some_and(|spec| spec.timeout.is_some());
            gate.outcome.is_none() && (gate.rule.is_some() || has_expired)
        };
        let mut waiting = self.plan.nodes.iter().filter(|node| {
            let step = self.state.step(node.index);
            step.status == StepStatus::Waiting
                && step.gate.as_ref().is_some_and(|gate| is_escalated(gate, node))
        });
        if waiting.next().is_none() {
            self.emit_run(RunResumed {});
        }
    }

    pub(super) fn refuse(&self, code: RejectionCode, message: impl Into<String>) -> Rejection {
        let (message, status) = (message.into(), self.state.status(false));
        Rejection { code, message, status, violations: Vec::new() }
    }

    fn wrong_state(&self, command: &Command, because: &str) -> Rejection {
        self.refuse(RejectionCode::WrongState, format!("{} is refused: the run {because}", command.name()))
    }

    pub(super) fn wrong_step_state(&self, node: StepKey, when: &str) -> Rejection {
        let status = self.state.step(node).status.as_str();
        let sentence = format!("step `{}` is {status}; a step {when}", self.plan.label(node));
        self.refuse(RejectionCode::WrongStepState, sentence)
    }
}

impl RunState {
    /// The attempt of this step that has begun and has no outcome yet.
    pub(crate) fn open_attempt(&self, plan: &Plan, key: StepKey) -> Option<Attempt> {
        let step = self.step(key);
        let is_gate_node = matches!(plan.node(key).role, Role::Approval(_));
        let begun = match (step.status, step.wait.as_ref().map(|wait| &wait.on)) {
            (StepStatus::Running, _) => true,
            // A gate before an attempt is not part of it, and what an error rule asks about is the next one.
            (StepStatus::Waiting, Some(WaitReason::Approval)) => {
                is_gate_node && step.gate.as_ref().is_none_or(|gate| gate.rule.is_none())
            }
            (
                StepStatus::Waiting,
                Some(
                    WaitReason::Timer
                    | WaitReason::Signal { .. }
                    | WaitReason::Items
                    | WaitReason::Child { .. },
                ),
            ) => true,
            _ => false,
        };
        begun.then_some(step.attempt)
    }
}
