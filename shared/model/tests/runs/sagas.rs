//! What a run did is undone before it fails or is canceled.

use std::time::Duration;

use windlass_model::event::{CompensationOutcome, Ending};
use windlass_model::{Command, EventBody, Input, Outcome, PauseReason, Plan, RunStatus, StepStatus};

use crate::common::{Run, plan};

/// Three steps that can be undone, and one that fails; `more` stands at the top.
fn saga(more: &str) -> Plan {
    plan(&format!(
        "{{version: 1, name: saga, type: steps, on_error: fail{more}, steps: [\
           {{id: a, type: work, compensate: {{type: work}}}}, \
           {{id: b, type: noop, compensate: {{type: noop, retry: {{max_attempts: 2, backoff: {{type: fixed, initial: 5s}}}}}}}}, \
           {{id: c, type: noop}}, \
           {{id: d, type: work, compensate: {{type: work}}}}]}}"
    ))
}

/// Up to `d`, which fails.
fn failed(plan: &Plan) -> Run<'_> {
    let mut run = Run::new(plan);
    run.take();
    for step in ["a", "b", "c"] {
        run.succeed(step);
    }
    run.fail("d", "http.500");
    run
}

fn ended(run: &Run<'_>) -> (RunStatus, Option<CompensationOutcome>) {
    let outcome = match &run.log.last().unwrap().body {
        EventBody::RunFailed(body) => body.compensation,
        EventBody::RunCanceled(body) => body.compensation,
        other => panic!("not an end: {other:?}"),
    };
    run.check_fold();
    (run.state.status(true), outcome)
}

const DONE: Option<CompensationOutcome> = Some(CompensationOutcome::Succeeded);

#[test]
fn what_was_done_last_is_undone_first_and_then_the_run_fails() {
    let plan = saga("");
    let mut run = failed(&plan);
    assert_eq!(run.state.status(true), RunStatus::Compensating);
    let EventBody::CompensationPlanned(planned) = &run.log[run.log.len() - 2].body else {
        panic!("{:?}", run.names())
    };
    assert_eq!(
        (planned.after, planned.steps.len()),
        (Ending::Failed, 2),
        "d failed for sure: nothing to undo"
    );
    assert_eq!(run.in_flight(), ["b.compensate"]);
    run.succeed("b.compensate");
    assert_eq!(run.in_flight(), ["a.compensate"]);
    run.succeed("a.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
    assert_eq!(run.state.error.as_ref().unwrap().kind, "http.500");
}

#[test]
fn the_order_is_the_one_that_the_definition_says() {
    let declared = saga(", compensation: {order: declared}");
    let run = failed(&declared);
    assert_eq!(run.in_flight(), ["a.compensate"]);
    let parallel = saga(", compensation: {order: parallel}");
    let mut run = failed(&parallel);
    assert_eq!(run.in_flight(), ["a.compensate", "b.compensate"]);
    run.succeed("a.compensate");
    run.succeed("b.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
}

#[test]
fn a_cancel_undoes_what_was_done_and_what_may_have_been() {
    let plan = saga("");
    let mut run = Run::new(&plan);
    run.take();
    for step in ["a", "b", "c"] {
        run.succeed(step);
    }
    run.command(Command::Cancel { reason: None }).unwrap();
    run.outcome("d", Outcome::Canceled);
    assert_eq!(run.in_flight(), ["d.compensate"], "nobody knows whether d was done");
    for step in ["d.compensate", "b.compensate", "a.compensate"] {
        run.succeed(step);
    }
    assert_eq!(ended(&run), (RunStatus::Canceled, DONE));
}

#[test]
fn what_a_definition_does_not_want_undone_stays_done() {
    let after_cancel_only = saga(", compensation: {when: [canceled]}");
    assert_eq!(ended(&failed(&after_cancel_only)), (RunStatus::Failed, None));
    let plan = saga(", compensation: {when: [failed]}");
    let mut run = Run::new(&plan);
    run.take();
    run.succeed("a");
    run.command(Command::Cancel { reason: None }).unwrap();
    run.outcome("b", Outcome::Canceled);
    assert_eq!(ended(&run), (RunStatus::Canceled, None));
}

#[test]
fn a_rule_undoes_even_when_the_definition_would_not() {
    let plan = plan(
        "{version: 1, name: s, type: steps, compensation: {when: []}, steps: [\
           {id: a, type: noop, compensate: {type: noop}}, \
           {id: b, type: work, on_error: [{match: [http.409], action: compensate}, {match: ['*'], action: fail}]}]}",
    );
    for (error, status) in [("http.409", RunStatus::Compensating), ("http.500", RunStatus::Failed)] {
        let mut run = Run::new(&plan);
        run.take();
        run.succeed("a");
        run.fail("b", error);
        assert_eq!(run.state.status(true), status, "{error}");
    }
}

#[test]
fn a_run_that_did_nothing_that_can_be_undone_ends_at_once() {
    let plan = saga("");
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    assert_eq!(ended(&run), (RunStatus::Failed, None));
}

#[test]
fn late_runs_and_broken_outputs_are_undone_too() {
    let late = plan(
        "{version: 1, name: s, type: steps, timeout: 1m, steps: [\
           {id: a, type: noop, compensate: {type: noop}}, {id: g, type: approval}]}",
    );
    let mut run = Run::new(&late);
    run.take();
    run.succeed("a");
    run.pass(Duration::from_secs(60));
    assert_eq!(run.in_flight(), ["a.compensate"], "undoing has no deadline");
    run.pass(Duration::from_secs(600));
    run.succeed("a.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
    assert_eq!(run.state.error.as_ref().unwrap().kind, "timeout");

    let broken = plan(
        "{version: 1, name: s, type: steps, steps: [{id: a, type: noop, compensate: {type: noop}}], \
         outputs: '${{ nodes.a.output.missing.deeper }}'}",
    );
    let mut run = Run::new(&broken);
    run.take();
    run.succeed("a");
    run.succeed("a.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
    assert_eq!(run.state.error.as_ref().unwrap().kind, "expression");
}

#[test]
fn what_undoes_is_retried_and_waits_for_its_time() {
    let plan = saga("");
    let mut run = failed(&plan);
    let first_key = run.state.idempotency_key(&plan, run.node("b.compensate"));
    run.fail("b.compensate", "http.503");
    assert_eq!(run.state.status(false), RunStatus::Compensating);
    assert_eq!(run.state.wake_at(), Some(run.now.plus(Duration::from_secs(5))));
    run.pass(Duration::from_secs(5));
    assert_ne!(run.state.idempotency_key(&plan, run.node("b.compensate")), first_key);
    run.succeed("b.compensate");
    run.succeed("a.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
}

#[test]
fn what_cannot_be_undone_waits_for_a_person_who_tries_again_or_passes_it() {
    let plan = saga("");
    let exhausted = || {
        let mut run = failed(&plan);
        run.succeed("b.compensate");
        run.fail("a.compensate", "http.410");
        assert_eq!(run.state.pause_reason(), Some(PauseReason::CompensationFailed));
        assert_eq!(run.state.wake_at(), None);
        run
    };
    let mut run = exhausted();
    run.command(Command::Retry { node: None }).unwrap();
    assert_eq!(run.state.status(false), RunStatus::Compensating);
    assert!(run.state.wake_at().is_some_and(|at| at <= run.now), "an engine is wanted at once");
    run.tick(Input::Advance);
    run.succeed("a.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));

    let mut run = exhausted();
    let undo = run.node("a.compensate");
    run.command(Command::Skip { node: undo.into() }).unwrap();
    run.tick(Input::Advance);
    assert_eq!(ended(&run), (RunStatus::Failed, Some(CompensationOutcome::Incomplete)));
}

#[test]
fn what_is_passed_before_its_turn_moves_nobody_elses() {
    let plan = saga("");
    let mut run = failed(&plan);
    let last = run.node("a.compensate");
    run.command(Command::Skip { node: last.into() }).unwrap();
    run.tick(Input::Advance);
    assert_eq!(run.in_flight(), ["b.compensate"]);
    run.succeed("b.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, Some(CompensationOutcome::Incomplete)));
}

#[test]
fn an_engine_that_dies_while_undoing_loses_nothing_and_repeats_only_what_is_safe() {
    let plan = saga("");
    let mut run = failed(&plan);
    let key = run.state.idempotency_key(&plan, run.node("b.compensate"));
    run.take();
    assert_eq!(run.in_flight(), ["b.compensate"]);
    assert_eq!(run.state.idempotency_key(&plan, run.node("b.compensate")), key);
    run.succeed("b.compensate");
    run.take();
    assert_eq!(
        run.state.pause_reason(),
        Some(PauseReason::EngineInterrupted),
        "a's undoing is not safe to repeat"
    );
    run.command(Command::Resume).unwrap();
    run.tick(Input::Advance);
    assert_eq!(run.in_flight(), ["a.compensate"]);
    run.succeed("a.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
    let undone = run.names().iter().filter(|name| *name == "step.succeeded b.compensate").count();
    assert_eq!(undone, 1);
}

#[test]
fn a_pause_holds_the_undoing_up_and_a_cancel_cannot_stop_it() {
    let plan = saga("");
    let mut run = failed(&plan);
    assert_eq!(run.command(Command::Cancel { reason: None }).unwrap_err().code.as_str(), "wrong_state");
    run.command(Command::Pause).unwrap();
    run.succeed("b.compensate");
    assert!(run.in_flight().is_empty());
    assert_eq!(run.command(Command::Cancel { reason: None }).unwrap_err().code.as_str(), "wrong_state");
    let done = run.node("a");
    assert_eq!(
        run.command(Command::Skip { node: done.into() }).unwrap_err().code.as_str(),
        "wrong_step_state"
    );
    run.command(Command::Resume).unwrap();
    run.tick(Input::Advance);
    run.succeed("a.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
}

#[test]
fn an_attempt_whose_answer_never_came_is_undone_although_it_failed() {
    let plan = saga("");
    for error in ["http.response", "schema.output"] {
        let mut run = Run::new(&plan);
        run.take();
        run.fail("a", error);
        assert_eq!(run.in_flight(), ["a.compensate"], "{error}");
    }
    let mut run = Run::new(&plan);
    run.take();
    run.outcome("a", Outcome::TimedOut { error: windlass_model::StepError::new("timeout", "") });
    assert_eq!(run.in_flight(), ["a.compensate"]);
}

#[test]
fn a_fallback_that_acted_is_undone_by_its_own_inverse() {
    let plan = plan(
        "{version: 1, name: s, type: steps, on_error: fail, steps: [{id: a, type: work, compensate: {type: work}, \
           on_error: [{match: ['*'], action: fallback, do: {type: work, compensate: {type: noop}}}]}, {id: b, type: work}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    run.succeed("a.fallback");
    run.fail("b", "http.500");
    assert_eq!(run.in_flight(), ["a.fallback.compensate"]);
    run.succeed("a.fallback.compensate");
    assert_eq!(ended(&run), (RunStatus::Failed, DONE));
}

#[test]
fn a_run_that_completes_undoes_nothing() {
    let plan = saga("");
    let mut run = Run::new(&plan);
    assert!(run.state.is_shown(&plan, run.node("d").into()), "what is to come is shown");
    run.take();
    for step in ["a", "b", "c", "d"] {
        run.succeed(step);
    }
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert_eq!(run.state.step(run.node("a.compensate")).status, StepStatus::Pending);
    assert!(!run.state.is_shown(&plan, run.node("a.compensate").into()));
}
