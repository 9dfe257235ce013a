//! Takes events into the state, one at a time. The only place where state changes.

use crate::concurrency::Place;
use crate::event::{ApprovalExpired, Event, EventBody, ExpiryAction, SkipReason, Then, WaitingOn};
use crate::plan::{Accept, Part, Plan, Role};
use crate::state::machine::names_what_is_there;
use crate::state::{
    AttemptOutcome, AttemptRecord, FoldError, Gate, GateOutcome, Grant, InboundKind, Phase, RunState, Wait,
    WaitReason,
};
use crate::{Actor, Epoch, NodeIndex, PauseReason, StepError, StepKey, StepStatus, Timestamp};

impl RunState {
    /// Takes one event into the state. The only place where state changes.
    ///
    /// # Errors
    /// [`FoldError`] when the event cannot follow what was applied so far. Nothing was changed then.
    pub fn apply(&mut self, plan: &Plan, event: &Event) -> Result<(), FoldError> {
        if event.seq != self.last_seq.next() {
            return Err(FoldError::Gap { last: self.last_seq, found: event.seq });
        }
        if self.is_terminal() {
            return Err(FoldError::AfterEnd { seq: event.seq, name: event.body.name() });
        }
        self.is_delayed &= self.starts_later(event.at);
        match event.node {
            Some(node) if node.at() < self.steps.len() => {
                self.apply_to_step(plan, event, StepKey { node, item: event.item });
            }
            Some(_) => return Err(FoldError::NoStep { seq: event.seq, name: event.body.name() }),
            None => self.apply_to_run(plan, event)?,
        }
        self.has_begun |= event.epoch.is_some()
            && (event.node.is_some() || matches!(event.body, EventBody::MachineTransitioned(_)));
        self.just_taken = matches!(event.body, EventBody::EngineTaken(_));
        self.last_seq = event.seq;
        self.last_event_at = event.at;
        Ok(())
    }

    fn apply_to_run(&mut self, plan: &Plan, event: &Event) -> Result<(), FoldError> {
        match &event.body {
            EventBody::EngineTaken(_) => {
                // The engine before died with work in its hands, or before it wrote anything at all.
                self.deaths = if !self.in_flight.is_empty() || self.just_taken { self.deaths + 1 } else { 0 };
                self.epoch = event.epoch.unwrap_or(Epoch(self.epoch.0 + 1));
                self.started_at.get_or_insert(event.at);
            }
            EventBody::PlaceAwaited(_) => self.place = Place::Awaited,
            EventBody::PlaceTaken(_) => self.place = Place::Held,
            EventBody::RunDeferred(body) => {
                self.turn_at = Some(body.until);
                self.start_at = Some(body.until);
                self.is_delayed = body.until > event.at;
            }
            EventBody::RunPaused(body) => {
                self.phase = Phase::Paused { reason: body.reason, message: body.message.clone() };
            }
            EventBody::RunQuarantined(_) => {
                self.phase = Phase::Paused { reason: PauseReason::Quarantined, message: None };
            }
            EventBody::RunResumed(_) => {
                self.phase = if self.compensation.is_some() { Phase::Compensating } else { Phase::Active };
                self.deaths = 0;
                for node in std::mem::take(&mut self.paused_steps) {
                    self.step_mut(node).failures = 0;
                    self.make_ready_again(node);
                }
            }
            EventBody::CancelRequested(_) => self.phase = Phase::Canceling,
            EventBody::CompensationPlanned(body) => self.begin_compensation(body),
            EventBody::RunCanceled(body) => {
                self.moved_to = body.moved_to;
                self.end(event.at, Phase::Canceled);
            }
            EventBody::MachineEdited(body) => self.edit_machine(body),
            EventBody::RunCompleted(body) => {
                self.output = body.output.clone();
                self.end(event.at, Phase::Completed);
            }
            EventBody::RunFailed(body) => {
                self.error = Some(body.error.clone());
                self.end(event.at, Phase::Failed);
            }
            EventBody::SignalReceived(body) if self.is_for_machine(plan, &body.name) => {
                let kind = InboundKind::Event { name: body.name.clone(), payload: body.payload.clone() };
                self.bring(event.at, kind);
            }
            EventBody::MachineTransitioned(body) if names_what_is_there(plan, body) => {
                self.apply_transition(plan, event.seq, body);
            }
            EventBody::MachineFailed(body) => {
                self.error.get_or_insert_with(|| body.error.clone());
                self.phase = Phase::Failing;
            }
            EventBody::EventEmitted(_) | EventBody::RunRepaired(_) => {}
            EventBody::SignalReceived(body) => {
                self.signals.entry(body.name.clone()).or_default().push_back(body.payload.clone());
                if let Some(node) = self.listening.get(&body.name).and_then(|nodes| nodes.first()) {
                    self.decided.insert(*node);
                }
            }
            _ => return Err(FoldError::NoStep { seq: event.seq, name: event.body.name() }),
        }
        Ok(())
    }

    fn end(&mut self, at: Timestamp, phase: Phase) {
        self.phase = phase;
        self.ended_at = Some(at);
        self.let_go_of_steps();
    }

    /// No step that has not ended by now is ever begun, woken or asked about.
    pub(super) fn let_go_of_steps(&mut self) {
        self.ready.clear();
        self.timers.clear();
        self.decided.clear();
        self.listening.clear();
        self.signals.clear();
        self.paused_steps.clear();
        if let Some(machine) = &mut self.machine {
            machine.end();
        }
    }

    fn apply_to_step(&mut self, plan: &Plan, event: &Event, node: StepKey) {
        let at = event.at;
        match &event.body {
            EventBody::StepStarted(body) => {
                self.leave_wait(node);
                self.ready.remove(&node);
                self.in_flight.insert(node);
                let step = self.step_mut(node);
                step.status = StepStatus::Running;
                step.attempt = event.attempt.unwrap_or(step.attempt + 1);
                step.key_attempt = body.key_attempt.unwrap_or(step.attempt);
                step.outcome_unknown = false;
                step.child = None;
                step.started_at = Some(at);
                step.ended_at = None;
                step.error = None;
            }
            EventBody::StepSucceeded(body) => {
                self.deaths = 0;
                if let Role::Signal { name, .. } = &plan.node(node).role {
                    self.take_signal(name);
                }
                self.end_attempt(plan, event, node, AttemptOutcome::Succeeded, None);
                let step = self.step_mut(node);
                step.output = body.output.clone();
                step.artifacts.extend(body.artifacts.iter().cloned());
                step.error = None;
                self.settle(plan, node, StepStatus::Succeeded, at);
            }
            EventBody::StepFailed(body) => {
                self.end_attempt(plan, event, node, AttemptOutcome::Failed, Some(&body.error));
                self.step_mut(node).artifacts.extend(body.artifacts.iter().cloned());
                self.after_failure(plan, node, &body.error, &body.then, at);
            }
            EventBody::StepTimedOut(body) => {
                self.end_attempt(plan, event, node, AttemptOutcome::TimedOut, Some(&body.error));
                self.after_failure(plan, node, &body.error, &body.then, at);
            }
            EventBody::StepCanceled(_) => {
                self.end_attempt(plan, event, node, AttemptOutcome::Canceled, None);
                self.settle(plan, node, StepStatus::Canceled, at);
            }
            EventBody::StepSkipped(body) => {
                self.leave_wait(node);
                let step = self.step_mut(node);
                step.skip_reason = Some(body.reason);
                step.passed_over = body.reason == SkipReason::Command;
                self.settle(plan, node, StepStatus::Skipped, at);
            }
            EventBody::StepEdited(body) => self.edit_step(plan, node, &body.output, at),
            EventBody::StepLost(body) => {
                self.end_attempt(plan, event, node, AttemptOutcome::Lost, None);
                self.step_mut(node).outcome_unknown = true;
                if body.retry {
                    self.make_ready_again(node);
                } else {
                    self.pause_step(node);
                }
            }
            EventBody::RetryScheduled(body) => {
                // A person has decided, by a command or at a gate that an error rule opened.
                let asked = self.step(node).gate.as_ref().is_some_and(|gate| gate.rule.is_some());
                if self.paused_steps.remove(&node) || asked {
                    self.step_mut(node).failures = 0;
                }
                if body.at <= at {
                    self.leave_wait(node);
                    self.make_ready_again(node);
                } else {
                    self.wait(node, WaitReason::Retry, Some(body.at));
                }
            }
            EventBody::StepDeferred(body) => {
                self.in_flight.remove(&node);
                let step = self.step_mut(node);
                step.turn_at = Some(body.until);
                // As if it had not been begun: the next start has the same number, and the same key.
                step.outcome_unknown = step.key_attempt < step.attempt;
                step.attempt = step.attempt.saturating_sub(1);
                self.wait(node, WaitReason::RateLimit, Some(body.until));
            }
            EventBody::StepWaiting(body) => {
                self.begin_attempt(node, at);
                match &body.on {
                    WaitingOn::Timer => self.wait(node, WaitReason::Timer, body.until),
                    WaitingOn::Signal { name } => {
                        self.listening.entry(name.clone()).or_default().insert(node);
                        self.wait(node, WaitReason::Signal { name: name.clone() }, body.until);
                    }
                }
            }
            EventBody::ChildStarted(body) => self.child_started(node, body),
            EventBody::ChildFinished(body) => self.child_finished(body),
            EventBody::ChildCancelRequested(body) => self.child_recalled(node, body),
            EventBody::StepPaused(_) => self.pause_step(node),
            EventBody::ItemsPlanned(body) => {
                if event.attempt != Some(self.step(node).attempt) {
                    self.begin_attempt(node, at);
                    self.wait(node, WaitReason::Items, None);
                }
                self.plan_items(plan, node.node, body);
            }
            EventBody::ItemsFailed(body) => self.items_failed(plan, node, body),
            EventBody::ApprovalRequested(body) => {
                let is_gate_node = matches!(plan.node(node).role, Role::Approval(_)) && body.rule.is_none();
                if is_gate_node {
                    self.begin_attempt(node, at);
                }
                let step = self.step_mut(node);
                let attempt = if is_gate_node { step.attempt } else { step.attempt + 1 };
                step.gate = Some(Box::new(Gate {
                    attempt,
                    show: body.show.clone(),
                    digest: body.digest.clone(),
                    requested_at: at,
                    expires_at: body.expires_at,
                    grants: Vec::new(),
                    outcome: None,
                    rule: body.rule.clone(),
                }));
                self.ready.remove(&node);
                self.wait(node, WaitReason::Approval, body.expires_at);
            }
            EventBody::ApprovalGranted(body) => {
                let grant = Grant {
                    by: event.actor.clone().unwrap_or_else(Actor::engine),
                    at,
                    comment: body.comment.clone(),
                    form: body.form.clone(),
                };
                if let Some(gate) = self.step_mut(node).gate.as_mut() {
                    let min = plan.node(node).spec_of(gate.rule.as_deref()).map_or(1, |spec| spec.min);
                    gate.grants.push(grant);
                    if gate.grants.len() as u32 >= min || crate::planted("one_approval_is_enough") {
                        gate.outcome = Some(GateOutcome::Granted);
                        self.decided.insert(node);
                    }
                }
            }
            EventBody::ApprovalRejected(body) => {
                let grant = Grant {
                    by: event.actor.clone().unwrap_or_else(Actor::engine),
                    at,
                    comment: body.comment.clone(),
                    form: body.form.clone(),
                };
                if let Some(gate) = self.step_mut(node).gate.as_mut() {
                    gate.outcome = Some(GateOutcome::Rejected(grant));
                    self.decided.insert(node);
                }
            }
            EventBody::ApprovalExpired(ApprovalExpired { action }) => {
                self.leave_timer(node);
                if let Some(gate) = self.step_mut(node).gate.as_mut() {
                    gate.expires_at = None;
                    if *action != ExpiryAction::Escalate {
                        gate.outcome = Some(GateOutcome::Expired(*action));
                        self.decided.insert(node);
                    }
                }
            }
            // A timer that fired is followed by the outcome; an emitted event changes nothing here.
            EventBody::TimerFired(_) => self.leave_timer(node),
            EventBody::EventEmitted(_) | EventBody::ErrorRouted(_) => {}
            // Events of the run as a whole carry no node; one that does changes nothing.
            _ => {}
        }
    }

    /// A step that no runner moves begins its attempt by waiting.
    fn begin_attempt(&mut self, node: StepKey, at: Timestamp) {
        let step = self.step_mut(node);
        step.attempt += 1;
        step.key_attempt = step.attempt;
        step.outcome_unknown = false;
        step.started_at = Some(at);
        step.ended_at = None;
        step.error = None;
        self.ready.remove(&node);
    }

    fn end_attempt(
        &mut self,
        plan: &Plan,
        event: &Event,
        node: StepKey,
        outcome: AttemptOutcome,
        error: Option<&StepError>,
    ) {
        self.note_deed(plan, node, outcome, error);
        self.in_flight.remove(&node);
        // It was the turn of a step whose items have ended; what comes next has its own time.
        self.ready.remove(&node);
        self.leave_wait(node);
        let step = self.step_mut(node);
        step.turn_at = None;
        step.ended_at = Some(event.at);
        if let Some(attempt) = event.attempt {
            // An attempt may end without having started: its gate was refused, its condition is broken.
            step.attempt = step.attempt.max(attempt);
            step.attempts.push(AttemptRecord {
                attempt,
                outcome,
                started_at: step.started_at,
                ended_at: event.at,
                error: error.cloned(),
                child_run_id: step.child,
            });
        }
    }

    fn after_failure(&mut self, plan: &Plan, node: StepKey, error: &StepError, then: &Then, at: Timestamp) {
        let step = self.step_mut(node);
        step.error = Some(error.clone());
        step.failures += 1;
        match then {
            // `step.retry_scheduled` or `approval.requested` follows in the same commit.
            Then::Retry | Then::Escalate => step.status = StepStatus::Waiting,
            Then::Pause => self.pause_step(node),
            Then::Continue { output } => {
                step.passed_over = true;
                step.output = output.clone();
                self.settle(plan, node, StepStatus::Failed, at);
            }
            Then::Substitute { output } => {
                step.output = output.clone();
                step.error = None;
                self.settle(plan, node, StepStatus::Succeeded, at);
            }
            Then::Fallback => {
                self.wait(node, WaitReason::Fallback, None);
                self.ready.extend(plan.node(node).fallback.map(|fallback| node.beside(fallback)));
            }
            Then::Count => self.settle(plan, node, StepStatus::Failed, at),
            Then::Skip => {
                step.skip_reason = Some(SkipReason::Error);
                self.settle(plan, node, StepStatus::Skipped, at);
            }
            Then::Fail | Then::Compensate => {
                self.must_compensate |= *then == Then::Compensate;
                if !matches!(self.phase, Phase::Canceling) {
                    self.error.get_or_insert_with(|| error.clone());
                    self.phase = Phase::Failing;
                }
                self.settle(plan, node, StepStatus::Failed, at);
            }
        }
    }

    pub(super) fn settle(&mut self, plan: &Plan, node: StepKey, status: StepStatus, at: Timestamp) {
        self.ready.remove(&node);
        self.in_flight.remove(&node);
        self.paused_steps.remove(&node);
        self.decided.remove(&node);
        let step = self.step_mut(node);
        step.status = status;
        step.ended_at = Some(at);
        match plan.node(node).part {
            Part::Main => {
                self.release_dependents(plan, node.node);
                if status != StepStatus::Canceled {
                    self.bring(at, InboundKind::Invoked { node: node.node });
                }
            }
            Part::Item { of } => self.item_has_ended(plan, of, node),
            Part::Compensation { .. } => self.has_compensated(),
            Part::Fallback { of } => {
                let of = node.beside(of);
                // Otherwise who it was to replace has ended in the meantime.
                if self.has_fallen_back(of) {
                    self.end_as(plan, of, node, at);
                }
            }
        }
    }

    /// A step whose fallback has taken over ends as that one did.
    fn end_as(&mut self, plan: &Plan, node: StepKey, fallback: StepKey, at: Timestamp) {
        self.leave_wait(node);
        let ended = self.step(fallback).clone();
        let step = self.step_mut(node);
        step.output = ended.output;
        step.error = ended.error;
        step.passed_over = ended.passed_over;
        step.skip_reason = ended.skip_reason;
        self.settle(plan, node, ended.status, at);
    }

    pub(super) fn release_dependents(&mut self, plan: &Plan, node: NodeIndex) {
        // A log that was damaged may settle a step twice; a fold does not break down over it.
        self.unsettled = self.unsettled.saturating_sub(1);
        for dependent in &plan.node(node).dependents {
            let accept = plan
                .node(*dependent)
                .needs
                .iter()
                .find(|need| need.node == node)
                .map_or(Accept::Default, |need| need.accept);
            let satisfied = self.satisfies(plan, node, *dependent, accept);
            let step = &mut self.steps[dependent.at()];
            step.unmet = step.unmet.saturating_sub(1);
            step.blocked |= !satisfied;
            let is_free = step.unmet == 0 || crate::planted("one_need_is_enough");
            if is_free && step.status == StepStatus::Pending {
                self.ready.insert((*dependent).into());
            }
        }
    }

    fn pause_step(&mut self, node: StepKey) {
        self.leave_wait(node);
        self.ready.remove(&node);
        self.step_mut(node).status = StepStatus::Paused;
        self.paused_steps.insert(node);
    }

    /// A person, or a lost attempt that may be repeated, asks for another try.
    fn make_ready_again(&mut self, node: StepKey) {
        let step = self.step_mut(node);
        step.status = StepStatus::Pending;
        // A gate lets through the attempts that follow it by themselves; a person's retry asks anew.
        if !step.outcome_unknown {
            step.gate = None;
        }
        self.ready.insert(node);
    }

    pub(super) fn wait(&mut self, node: StepKey, on: WaitReason, until: Option<Timestamp>) {
        self.leave_timer(node);
        let step = self.step_mut(node);
        step.status = StepStatus::Waiting;
        step.wait = Some(Wait { on, until });
        if let Some(at) = until {
            self.timers.insert((at, node));
        }
    }

    pub(super) fn leave_timer(&mut self, node: StepKey) {
        if let Some(at) = self.step_mut(node).wait.as_mut().and_then(|wait| wait.until.take()) {
            self.timers.remove(&(at, node));
        }
    }

    pub(super) fn leave_wait(&mut self, node: StepKey) {
        self.leave_timer(node);
        self.decided.remove(&node);
        if let Some(Wait { on: WaitReason::Signal { name }, .. }) = self.step_mut(node).wait.take()
            && let Some(nodes) = self.listening.get_mut(&name)
        {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.listening.remove(&name);
            }
        }
    }

    fn take_signal(&mut self, name: &str) {
        if let Some(queue) = self.signals.get_mut(name) {
            queue.pop_front();
            if queue.is_empty() {
                self.signals.remove(name);
            }
        }
    }
}
