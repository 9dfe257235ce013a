//! Runs of state machines, on the same log and by the same rules as any run.

use std::time::Duration;

use serde_json::json;
use windlass_model::command::RejectionCode;
use windlass_model::{Command, Payload, Plan, RunStatus, StepStatus};

use crate::common::{Run, plan};

fn order() -> Plan {
    plan(
        "
version: 1
name: order
type: machine
context: { total: 0, tries: 0 }
events: { SUBMIT: { type: object, required: [total] }, CANCEL: {} }
initial: draft
on: { CANCEL: { target: canceled, actions: { emit: { type: order.canceled } } } }
states:
  draft:
    on: { SUBMIT: { target: charging, actions: { assign: { total: '${{ event.total }}' } } } }
    after: { 72h: canceled }
  charging:
    entry: { assign: { tries: '${{ context.tries + 1 }}' } }
    invoke:
      type: work
      with: { amount: '${{ context.total }}' }
      on_done: { target: paid, actions: { assign: { charge: '${{ output.by }}' } } }
      on_error: { match: [http.5xx], guard: context.tries < 3, target: backoff }
  backoff: { after: { 20s: charging } }
  paid: { type: final, output: { charge: '${{ context.charge }}' } }
  canceled: { type: final }
",
    )
}

fn send(run: &mut Run<'_>, name: &str, payload: serde_json::Value) {
    run.command(Command::Signal { name: name.into(), payload: Payload::from(payload) }).unwrap();
    run.tick(windlass_model::Input::Advance);
}

fn states(run: &Run<'_>) -> Vec<String> {
    let machine = run.plan.machine.as_ref().unwrap();
    let active = run.state.machine.as_ref().unwrap().state.configuration.iter();
    active.map(|index| machine.state(*index).path.clone()).filter(|path| !path.is_empty()).collect()
}

#[test]
fn an_order_is_submitted_fails_once_is_tried_again_later_and_is_paid() {
    let plan = order();
    let mut run = Run::new(&plan);
    run.take();
    assert_eq!((run.state.status(false), states(&run)), (RunStatus::Waiting, vec!["draft".into()]));
    assert_eq!(run.state.wake_at(), Some(run.now.plus(Duration::from_secs(72 * 3600))));
    send(&mut run, "SUBMIT", json!({ "total": 12 }));
    assert_eq!((run.in_flight(), states(&run)), (vec!["charging".into()], vec!["charging".into()]));
    let first_key = run.state.idempotency_key(&plan, run.node("charging"));
    run.fail("charging", "http.503");
    assert_eq!((run.in_flight(), states(&run)), (vec![], vec!["backoff".into()]));
    run.pass(Duration::from_secs(19));
    assert_eq!(run.in_flight(), [""; 0]);
    run.pass(Duration::from_secs(1));
    assert_eq!(run.in_flight(), ["charging"]);
    assert_ne!(
        run.state.idempotency_key(&plan, run.node("charging")),
        first_key,
        "a definite failure ended it"
    );
    run.succeed("charging");
    assert_eq!(run.state.status(false), RunStatus::Completed);
    assert_eq!(run.state.output, Payload::from(json!({ "charge": "charging" })));
    run.check_fold();
}

#[test]
fn leaving_a_state_gives_up_what_it_invoked() {
    let plan = order();
    let mut run = Run::new(&plan);
    run.take();
    send(&mut run, "SUBMIT", json!({ "total": 1 }));
    let attempt = run.state.step(run.node("charging")).attempt;
    send(&mut run, "CANCEL", json!(null));
    assert_eq!(run.in_flight(), [""; 0]);
    assert_eq!(run.state.step(run.node("charging")).status, StepStatus::Canceled);
    assert_eq!((run.state.status(false), attempt), (RunStatus::Completed, 1));
    let names = run.names();
    let tail: Vec<&str> = names.iter().rev().take(4).rev().map(String::as_str).collect();
    assert_eq!(tail, ["event.emitted", "step.canceled charging", "machine.transitioned", "run.completed"]);
    run.check_fold();
}

#[test]
fn a_failure_that_no_rule_takes_pauses_the_run_and_a_person_may_retry_it() {
    let plan = order();
    let mut run = Run::new(&plan);
    run.take();
    send(&mut run, "SUBMIT", json!({ "total": 1 }));
    run.fail("charging", "http.404");
    assert_eq!((run.state.status(false), states(&run)), (RunStatus::Paused, vec!["charging".into()]));
    run.command(Command::Retry { node: None }).unwrap();
    run.tick(windlass_model::Input::Advance);
    run.succeed("charging");
    assert_eq!(run.state.status(false), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn a_failed_invocation_that_a_person_passes_over_is_done_and_not_failed() {
    let plan = plan(
        "{version: 1, name: m, type: machine, initial: charging, states: \
         {charging: {invoke: {type: work, on_done: paid}}, paid: {type: final}}}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.fail("charging", "http.404");
    assert_eq!(run.state.status(false), RunStatus::Paused);
    let node = run.node("charging").into();
    run.command(Command::Skip { node }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!((run.state.status(false), states(&run)), (RunStatus::Completed, vec!["paid".into()]));
    run.check_fold();
}

#[test]
fn what_an_invoked_node_did_is_unknown_after_a_crash_so_the_run_asks() {
    let plan = order();
    let mut run = Run::new(&plan);
    run.take();
    send(&mut run, "SUBMIT", json!({ "total": 1 }));
    run.take();
    assert_eq!(run.state.status(false), RunStatus::Paused, "`work` is not safe to repeat");
    run.command(Command::Skip { node: run.node("charging").into() }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.state.error.as_ref().map(|error| error.kind.as_str()), Some("expression"), "no output");
    run.check_fold();
}

#[test]
fn events_are_checked_at_the_door_and_those_that_nothing_takes_change_nothing() {
    let plan = order();
    let mut run = Run::new(&plan);
    run.take();
    let mut refused = |name: &str, payload| {
        let command = Command::Signal { name: name.into(), payload: Payload::from(payload) };
        run.command(command).unwrap_err().code
    };
    assert_eq!(refused("SUBMIT", json!({})), RejectionCode::InvalidPayload);
    assert_eq!(refused("CANCEL", json!("now")), RejectionCode::InvalidPayload);
    assert_eq!(refused("SHIP", json!({})), RejectionCode::UnknownSignal);
    send(&mut run, "SUBMIT", json!({ "total": 1 }));
    send(&mut run, "SUBMIT", json!({ "total": 2 }));
    assert_eq!(run.state.machine.as_ref().unwrap().state.context["total"], 1);
    assert_eq!(run.state.status(false), RunStatus::Queued, "charging goes on");
    run.check_fold();
}

#[test]
fn an_event_that_came_before_a_timer_was_due_is_taken_before_it_however_late_the_engine_is() {
    let plan = order();
    let mut run = Run::new(&plan);
    run.take();
    run.now = run.now.plus(Duration::from_secs(71 * 3600));
    let payload = Payload::from(json!({ "total": 1 }));
    run.command(Command::Signal { name: "SUBMIT".into(), payload }).unwrap();
    run.pass(Duration::from_secs(5 * 3600));
    assert_eq!(states(&run), ["charging"]);
    run.check_fold();
}

#[test]
fn a_timer_that_fires_leaves_those_of_other_states_alone() {
    let second = Duration::from_secs(1);
    let plan = plan(
        "
version: 1
name: alarms
type: machine
initial: both
states:
  both:
    type: parallel
    on_done: end
    states:
      soon: { initial: waits, states: { waits: { after: { 1s: over } }, over: { type: final } } }
      late: { initial: waits, states: { waits: { after: { 2s: over } }, over: { type: final } } }
  end: { type: final }
",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.pass(second);
    assert_eq!(run.state.wake_at(), Some(run.now.plus(second)));
    run.pass(second);
    assert_eq!(run.state.status(false), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn a_canceled_run_stops_what_its_machine_invoked() {
    let plan = order();
    let mut run = Run::new(&plan);
    run.take();
    send(&mut run, "SUBMIT", json!({ "total": 1 }));
    run.command(Command::Cancel { reason: None }).unwrap();
    run.outcome("charging", windlass_model::Outcome::Canceled);
    assert_eq!(run.state.status(false), RunStatus::Canceled);
    run.check_fold();
}
