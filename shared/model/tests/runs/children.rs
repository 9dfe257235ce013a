//! Runs that steps start: their end, their stop, and what the run that started them does meanwhile.

use std::time::Duration;

use serde_json::json;
use windlass_model::event::RecallReason;
use windlass_model::state::WaitReason;
use windlass_model::{
    ChildEnd, Command, EventBody, Outcome, PauseReason, Payload, Plan, RunId, RunStatus, StepError,
    StepStatus,
};

use crate::common::{Run, plan};

fn calling(more: &str) -> Plan {
    plan(&format!(
        "{{version: 1, name: p, type: steps, steps: [{{id: call, type: workflow, workflow: child{more}}}, \
         {{id: after, type: noop}}]}}"
    ))
}

/// The parent stands at its call, whose child has been started.
fn called(plan: &Plan) -> (Run<'_>, RunId) {
    let mut run = Run::new(plan);
    run.take();
    run.succeed("call");
    let child = run.child_of("call");
    (run, child)
}

fn completed() -> ChildEnd {
    ChildEnd::Completed(Payload::from(json!({ "n": 7 })))
}

fn recalls(run: &Run<'_>) -> Vec<RecallReason> {
    let because = |body: &EventBody| match body {
        EventBody::ChildCancelRequested(body) => Some(body.because),
        _ => None,
    };
    run.log.iter().filter_map(|event| because(&event.body)).collect()
}

#[test]
fn a_step_waits_for_its_child_and_ends_as_it_does() {
    let plan = calling("");
    let (mut run, child) = called(&plan);
    let call = run.node("call");
    assert_eq!(run.state.step(call).status, StepStatus::Waiting);
    assert_eq!(run.state.step(call).wait.as_ref().unwrap().on, WaitReason::Child { run_id: child });
    assert_eq!((run.state.status(false), run.state.wake_at()), (RunStatus::Waiting, None));
    // A new engine finds nothing lost.
    run.take();
    run.child_ends(child, completed());
    assert_eq!(run.state.step(call).output.value().unwrap()["n"], 7);
    run.succeed("after");
    assert_eq!(
        run.names(),
        [
            "run.created",
            "run.engine_taken",
            "step.started call",
            "child.started call",
            "run.engine_taken",
            "child.finished call",
            "step.succeeded call",
            "step.started after",
            "step.succeeded after",
            "run.completed",
        ]
    );
    // Told twice is told once.
    let before = run.log.len();
    run.child_ends(child, completed());
    assert_eq!(run.log.len(), before);
    run.check_fold();
}

#[test]
fn a_failed_child_is_an_error_like_any_other_and_a_retry_starts_another_one() {
    let plan = calling(", retry: {max_attempts: 2, backoff: {type: fixed, initial: 5s}}, on_error: continue");
    let (mut run, first) = called(&plan);
    let error = StepError::new("http.500", "no answer");
    run.child_ends(first, ChildEnd::Failed(error.clone()));
    run.pass(Duration::from_secs(5));
    run.succeed("call");
    let second = run.child_of("call");
    assert_ne!(first, second);
    run.child_ends(second, ChildEnd::Failed(error));
    let step = run.state.step(run.node("call"));
    let failed = step.error.as_ref().unwrap();
    assert_eq!((step.status, failed.kind.as_str()), (StepStatus::Failed, "child.failed"));
    let details = failed.details.as_ref().unwrap();
    assert_eq!(details["error"]["type"], "http.500");
    assert_eq!(details["run_id"], json!(second));
    let children: Vec<_> = step.attempts.iter().map(|attempt| attempt.child_run_id).collect();
    assert_eq!(children, [Some(first), Some(second)]);
    assert_eq!(run.in_flight(), ["after"]);
    run.check_fold();
}

#[test]
fn a_child_that_somebody_canceled_is_not_tried_again_by_itself() {
    let plan = calling(", retry: {max_attempts: 3}");
    let (mut run, child) = called(&plan);
    run.child_ends(child, ChildEnd::Canceled);
    let step = run.state.step(run.node("call"));
    assert_eq!(
        (step.status, step.error.as_ref().unwrap().kind.as_str()),
        (StepStatus::Paused, "child.canceled")
    );
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed));
}

#[test]
fn a_canceled_run_stops_its_children_and_ends_after_them() {
    let plan = plan(
        "{version: 1, name: p, type: dag, nodes: {one: {type: workflow, workflow: child}, \
         two: {type: workflow, workflow: child}, idle: {type: wait, for: 1h}}}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.succeed("one");
    run.succeed("two");
    let (one, two) = (run.child_of("one"), run.child_of("two"));
    run.command(Command::Cancel { reason: None }).unwrap();
    assert!(run.state.wants_engine() && run.state.wake_at().is_some());
    run.take();
    assert_eq!(recalls(&run), [RecallReason::ParentCanceled; 2]);
    assert_eq!(run.state.step(run.node("idle")).status, StepStatus::Canceled);
    // Nothing to do until they have ended: no engine, no time.
    assert_eq!((run.state.status(false), run.state.wake_at()), (RunStatus::Canceling, None));
    assert!(!run.state.wants_engine());
    run.child_ends(one, ChildEnd::Canceled);
    assert!(!run.state.is_terminal());
    // What was done before the cancel arrived is told as it was.
    run.child_ends(two, completed());
    assert_eq!(run.state.status(false), RunStatus::Canceled);
    assert_eq!(run.state.step(run.node("one")).status, StepStatus::Canceled);
    assert_eq!(run.state.step(run.node("two")).status, StepStatus::Succeeded);
    run.check_fold();
}

#[test]
fn a_child_that_is_not_there_yet_is_not_started_any_more_once_the_run_stops() {
    let plan = calling("");
    let mut run = Run::new(&plan);
    run.take();
    run.command(Command::Cancel { reason: None }).unwrap();
    run.succeed("call");
    assert_eq!(run.state.status(false), RunStatus::Canceled);
    assert!(!run.names().contains(&"child.started call".to_owned()));
}

#[test]
fn a_call_that_was_interrupted_is_made_again() {
    let plan = calling("");
    let mut run = Run::new(&plan);
    run.take();
    run.take();
    assert_eq!(run.in_flight(), ["call"]);
    assert_eq!(run.state.step(run.node("call")).attempt, 2);
    run.succeed("call");
    assert_eq!(run.state.children.len(), 1);
}

#[test]
fn a_timeout_stops_the_child_and_the_step_ends_when_the_child_has() {
    let plan = calling(", timeout: 10s, on_error: fail");
    for (end, status) in [(ChildEnd::Canceled, StepStatus::Failed), (completed(), StepStatus::Succeeded)] {
        let (mut run, child) = called(&plan);
        assert_eq!(run.state.wake_at(), Some(run.now.plus(Duration::from_secs(10))));
        run.pass(Duration::from_secs(10));
        assert_eq!(recalls(&run), [RecallReason::Timeout]);
        assert_eq!((run.state.status(false), run.state.wake_at()), (RunStatus::Waiting, None));
        run.child_ends(child, end);
        let step = run.state.step(run.node("call"));
        assert_eq!(step.status, status);
        if let Some(error) = &step.error {
            assert_eq!((error.kind.as_str(), run.state.status(false)), ("timeout", RunStatus::Failed));
        }
        run.check_fold();
    }
}

#[test]
fn a_run_whose_time_is_over_fails_once_its_children_have_ended() {
    let plan = plan(
        "{version: 1, name: p, type: dag, timeout: 10s, nodes: {call: {type: workflow, workflow: child}, \
         idle: {type: wait, for: 1h}}}",
    );
    let (mut run, child) = called(&plan);
    run.pass(Duration::from_secs(10));
    assert_eq!(recalls(&run), [RecallReason::ParentDeadline]);
    assert_eq!((run.state.status(false), run.state.wake_at()), (RunStatus::Waiting, None));
    run.child_ends(child, ChildEnd::Canceled);
    assert_eq!(run.state.status(false), RunStatus::Failed);
    assert_eq!(run.state.error.as_ref().unwrap().kind, "timeout");
    run.check_fold();
}

#[test]
fn a_child_that_meets_the_deadline_first_does_not_say_why_the_run_ends() {
    let plan = plan(
        "{version: 1, name: p, type: steps, timeout: 10s, steps: [{id: call, type: workflow, workflow: child}]}",
    );
    let (mut run, child) = called(&plan);
    run.now = run.now.plus(Duration::from_secs(10));
    run.child_ends(child, ChildEnd::Failed(StepError::new("timeout", "its time was over")));
    assert_eq!(run.state.status(false), RunStatus::Failed);
    assert_eq!(run.state.error.as_ref().unwrap().kind, "timeout");
    assert_eq!(run.state.step(run.node("call")).status, StepStatus::Canceled);
    run.check_fold();
}

#[test]
fn a_failing_run_stops_its_children_first() {
    let plan = plan(
        "{version: 1, name: p, type: dag, nodes: {call: {type: workflow, workflow: child}, \
         broken: {type: noop, on_error: fail}}}",
    );
    let (mut run, child) = called(&plan);
    run.fail("broken", "http.500");
    assert_eq!(recalls(&run), [RecallReason::ParentFailed]);
    assert_eq!(run.state.status(false), RunStatus::Waiting);
    run.child_ends(child, ChildEnd::Canceled);
    assert_eq!(run.state.status(false), RunStatus::Failed);
    assert_eq!(run.state.error.as_ref().unwrap().kind, "http.500");
}

#[test]
fn a_child_that_nobody_waits_for_any_more_is_stopped_before_the_run_ends() {
    let plan = calling("");
    let (mut run, child) = called(&plan);
    run.command(Command::Skip { node: run.key("call") }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(recalls(&run), [RecallReason::StepEnded]);
    run.succeed("after");
    assert_eq!((run.state.status(false), run.state.wants_engine()), (RunStatus::Waiting, false));
    run.child_ends(child, ChildEnd::Canceled);
    assert_eq!(run.state.status(false), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn a_machine_that_leaves_a_state_stops_what_it_has_called() {
    let plan = plan(
        "{version: 1, name: m, type: machine, initial: at, events: {GO: {}}, states: {at: {on: {GO: end}, \
         invoke: {id: call, type: workflow, workflow: child}}, end: {type: final}}}",
    );
    let (mut run, child) = called(&plan);
    run.command(Command::Signal { name: "GO".into(), payload: Payload::null() }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(recalls(&run), [RecallReason::StepEnded]);
    assert!(!run.state.is_terminal());
    run.child_ends(child, ChildEnd::Canceled);
    assert_eq!(run.state.status(false), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn the_end_of_a_child_is_taken_in_while_the_run_is_paused() {
    let plan = calling("");
    let (mut run, child) = called(&plan);
    run.command(Command::Pause).unwrap();
    run.child_ends(child, completed());
    assert_eq!(run.state.step(run.node("call")).status, StepStatus::Succeeded);
    assert_eq!(run.in_flight(), [""; 0]);
    run.command(Command::Resume).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.in_flight(), ["after"]);
}

#[test]
fn only_a_child_that_completed_is_undone_by_its_parent() {
    let plan = plan(
        "{version: 1, name: p, type: steps, steps: [{id: call, type: workflow, workflow: child, \
         compensate: {type: workflow, workflow: undo}}, {id: broken, type: noop, on_error: fail}]}",
    );
    let (mut run, child) = called(&plan);
    run.child_ends(child, completed());
    run.fail("broken", "http.500");
    assert_eq!(run.in_flight(), ["call.compensate"]);
    run.succeed("call.compensate");
    let undoing = run.child_of("call.compensate");
    assert_eq!((run.state.status(false), run.state.wants_engine()), (RunStatus::Compensating, false));
    run.child_ends(undoing, completed());
    assert_eq!(run.state.status(false), RunStatus::Failed);

    let (mut run, child) = called(&plan);
    run.command(Command::Cancel { reason: None }).unwrap();
    run.tick(windlass_model::Input::Advance);
    run.child_ends(child, ChildEnd::Canceled);
    assert_eq!(run.state.status(false), RunStatus::Canceled);
    run.check_fold();
}

#[test]
fn what_a_child_gives_must_be_as_its_step_promises() {
    let plan = calling(", output_schema: {type: object, required: [m]}, on_error: continue");
    let (mut run, child) = called(&plan);
    run.child_ends(child, completed());
    let step = run.state.step(run.node("call"));
    assert_eq!(step.error.as_ref().unwrap().kind, "schema.output");
    // A runner cannot answer in the place of a child.
    let outcome = Outcome::Succeeded { output: Payload::null(), artifacts: Vec::new(), emit: None };
    run.outcome("call", outcome);
    assert_eq!(run.state.step(run.node("call")).status, StepStatus::Failed);
}
