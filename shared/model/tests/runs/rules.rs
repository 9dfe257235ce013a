//! The rules of a run, one fact a test.

use std::time::Duration;

use crate::common::{Run, plan};
use serde_json::json;
use windlass_model::command::{RejectionCode, Verdict};
use windlass_model::event::RunCreated;
use windlass_model::{
    Actor, Command, Input, NodeIndex, Outcome, PauseReason, Payload, RunStatus, StepStatus, Timestamp,
};

fn verdict(node: NodeIndex, attempt: u16) -> Verdict {
    Verdict { node, attempt, digest: None, comment: Some("fine".into()), form: Payload::null() }
}

#[test]
fn an_outcome_is_recorded_together_with_the_next_start() {
    let plan = plan("{version: 1, name: s, type: steps, steps: [{id: a, type: noop}, {id: b, type: noop}]}");
    let mut run = Run::new(&plan);
    run.take();
    run.succeed("a");
    run.succeed("b");
    assert_eq!(
        run.names(),
        [
            "run.created",
            "run.engine_taken",
            "step.started a",
            "step.succeeded a",
            "step.started b",
            "step.succeeded b",
            "run.completed",
        ]
    );
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn branches_run_side_by_side_and_a_join_waits_for_all() {
    let plan = plan(
        "{version: 1, name: d, type: dag, nodes: {a: {type: noop}, b: {type: noop, needs: [a]}, \
         c: {type: noop, needs: [a]}, d: {type: noop, needs: [b, c]}}}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.succeed("a");
    assert_eq!(run.in_flight(), ["b", "c"]);
    run.succeed("c");
    assert_eq!(run.in_flight(), ["b"]);
    run.succeed("b");
    assert_eq!(run.in_flight(), ["d"]);
}

#[test]
fn a_skip_propagates_in_a_graph_but_not_in_a_list() {
    let dag = plan(
        "{version: 1, name: d, type: dag, nodes: {a: {type: noop, if: '${{ false }}'}, b: {type: noop, needs: [a]}, \
         c: {type: noop, needs: [{node: a, accept: [succeeded, skipped]}]}}}",
    );
    let mut run = Run::new(&dag);
    run.take();
    assert_eq!(run.in_flight(), ["c"]);
    assert_eq!(run.state.step(run.node("b")).status, StepStatus::Skipped);

    let list = plan(
        "{version: 1, name: s, type: steps, steps: [{id: a, type: noop, if: '${{ false }}'}, {id: b, type: noop}]}",
    );
    let mut run = Run::new(&list);
    run.take();
    assert_eq!(run.in_flight(), ["b"]);
}

#[test]
fn who_needs_a_failure_is_skipped_by_a_success() {
    let plan = plan(
        "{version: 1, name: d, type: dag, nodes: {a: {type: noop}, b: {type: noop, needs: [{node: a, accept: [failed]}]}}}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.succeed("a");
    assert_eq!(run.state.step(run.node("b")).status, StepStatus::Skipped);
    assert_eq!(run.state.status(true), RunStatus::Completed);
}

#[test]
fn a_run_without_a_group_asks_for_no_place() {
    let plan = plan("{version: 1, name: s, type: steps, steps: [{id: a, type: noop}]}");
    let run = Run::new(&plan);
    assert!(!run.state.wants_place() && !run.state.asks_for_place(run.now));
}

#[test]
fn branches_that_a_switch_did_not_take_are_skipped() {
    let plan = plan(
        "{version: 1, name: d, type: dag, nodes: {s: {type: switch, cases: [{when: '${{ true }}', then: [a]}], default: [b, d]}, \
         a: {type: noop, needs: [s]}, b: {type: noop, needs: [s]}, c: {type: noop, needs: [s]}, \
         d: {type: noop, needs: [{node: s, accept: [succeeded, skipped]}]}}}",
    );
    let mut run = Run::new(&plan);
    run.take();
    let output = Payload::from(json!({"taken": ["a"]}));
    run.outcome("s", Outcome::Succeeded { output, artifacts: Vec::new(), emit: None });
    assert_eq!(run.in_flight(), ["a", "c"]);
    for not_taken in ["b", "d"] {
        assert_eq!(run.state.step(run.node(not_taken)).status, StepStatus::Skipped);
    }
    run.check_fold();
}

#[test]
fn a_failure_is_retried_with_a_new_key_after_its_pause() {
    let plan = plan(
        "{version: 1, name: s, type: steps, steps: [{id: a, type: work, \
         retry: {max_attempts: 2, backoff: {type: fixed, initial: 10s}}}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    let first_key = run.state.idempotency_key(&plan, run.node("a"));
    run.fail("a", "http.503");
    assert_eq!(run.state.status(true), RunStatus::Waiting);
    run.pass(Duration::from_secs(9));
    assert!(run.in_flight().is_empty());
    run.pass(Duration::from_secs(1));
    assert_eq!(run.in_flight(), ["a"]);
    assert_ne!(run.state.idempotency_key(&plan, run.node("a")), first_key);
    run.fail("a", "http.503");
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed));
    run.check_fold();
}

#[test]
fn a_lost_step_is_repeated_with_the_same_key_or_put_before_a_person() {
    let safe = plan("{version: 1, name: s, type: steps, steps: [{id: a, type: noop}]}");
    let mut run = Run::new(&safe);
    run.take();
    let key = run.state.idempotency_key(&safe, run.node("a"));
    run.take();
    assert_eq!(run.in_flight(), ["a"]);
    assert_eq!(run.state.step(run.node("a")).attempt, 2);
    assert_eq!(run.state.idempotency_key(&safe, run.node("a")), key);

    let unsafe_to_repeat = plan("{version: 1, name: s, type: steps, steps: [{id: a, type: work}]}");
    let mut run = Run::new(&unsafe_to_repeat);
    run.take();
    let key = run.state.idempotency_key(&unsafe_to_repeat, run.node("a"));
    run.take();
    assert!(run.in_flight().is_empty());
    assert_eq!(run.state.pause_reason(), Some(PauseReason::EngineInterrupted));
    run.command(Command::Resume).unwrap();
    run.tick(Input::Advance);
    assert_eq!(run.in_flight(), ["a"]);
    assert_eq!(run.state.idempotency_key(&unsafe_to_repeat, run.node("a")), key);
    run.check_fold();
}

#[test]
fn a_run_that_kills_its_engine_three_times_is_quarantined() {
    let plan = plan("{version: 1, name: s, type: steps, steps: [{id: a, type: noop}]}");
    let mut run = Run::new(&plan);
    for _ in 0..3 {
        run.take();
        assert_eq!(run.in_flight(), ["a"]);
    }
    run.take();
    assert_eq!(run.state.pause_reason(), Some(PauseReason::Quarantined));
    assert!(run.in_flight().is_empty());
    run.command(Command::Resume).unwrap();
    run.tick(Input::Advance);
    run.succeed("a");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn continue_goes_on_and_never_pauses() {
    let plan = plan(
        "{version: 1, name: s, type: steps, steps: [{id: a, type: work, \
         on_error: [{match: ['*'], action: continue, output: {told: false}}]}, {id: b, type: noop}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    assert_eq!(run.in_flight(), ["b"]);
    assert!(!run.names().iter().any(|name| name.contains("paused")));
    assert_eq!(run.state.step(run.node("a")).output, Payload::from(json!({"told": false})));
}

#[test]
fn fail_lets_what_is_in_flight_end_before_the_run_fails() {
    let plan = plan(
        "{version: 1, name: d, type: dag, nodes: {a: {type: work, on_error: fail}, b: {type: work}, \
         g: {type: approval}}}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    assert_eq!(run.state.status(true), RunStatus::Running);
    run.outcome("b", Outcome::Canceled);
    assert_eq!(run.state.status(true), RunStatus::Failed);
    assert_eq!(run.state.error.as_ref().unwrap().kind, "http.500");
    assert_eq!(run.state.step(run.node("g")).status, StepStatus::Canceled);
    run.check_fold();
}

#[test]
fn a_gate_before_a_step_covers_its_retries_but_not_a_persons() {
    let plan = plan(
        "{version: 1, name: s, type: steps, steps: [{id: a, type: work, approval: {}, \
         retry: {max_attempts: 2, backoff: {type: fixed, initial: 1s}}}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    let a = run.node("a");
    assert_eq!(run.state.status(true), RunStatus::Waiting);
    run.command(Command::Approve(verdict(a, 1))).unwrap();
    assert_eq!(run.state.status(false), RunStatus::Queued);
    run.tick(Input::Advance);
    assert_eq!(run.in_flight(), ["a"]);
    run.fail("a", "http.500");
    run.pass(Duration::from_secs(1));
    assert_eq!(run.in_flight(), ["a"], "an automatic retry needs no second approval");
    run.fail("a", "http.500");
    run.command(Command::Resume).unwrap();
    run.tick(Input::Advance);
    assert!(run.in_flight().is_empty(), "a person's retry asks anew");
    assert_eq!(run.command(Command::Approve(verdict(a, 1))).unwrap_err().code, RejectionCode::StaleApproval);
    run.command(Command::Approve(verdict(a, 3))).unwrap();
    run.tick(Input::Advance);
    run.succeed("a");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn a_gate_wants_enough_different_people_and_only_those_it_names() {
    let plan = plan(
        "{version: 1, name: s, type: steps, steps: [{id: g, type: approval, \
         approvers: {any_of: ['role:lead', 'user:zoe'], min: 2, exclude_requester: true}}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    let g = run.node("g");
    let lead = |id: &str| Actor::User { id: id.into(), roles: vec!["lead".into()] };
    let mut approve = |actor| run.command_by(Command::Approve(verdict(g, 1)), actor).map_err(|it| it.code);
    assert_eq!(approve(Actor::user("bob")), Err(RejectionCode::NotAnApprover));
    assert_eq!(approve(lead("rita")), Err(RejectionCode::NotAnApprover), "rita created the run");
    assert_eq!(approve(lead("ada")), Ok(()));
    assert_eq!(approve(lead("ada")), Err(RejectionCode::AlreadyDecided));
    assert_eq!(approve(Actor::user("zoe")), Ok(()));
    assert_eq!(approve(lead("max")), Err(RejectionCode::AlreadyDecided));
    run.tick(Input::Advance);
    assert_eq!(run.state.status(true), RunStatus::Completed);
    let output = run.state.step(g).output.value().unwrap().clone();
    assert_eq!(output["by"], json!(["ada", "zoe"]));
    run.check_fold();
}

#[test]
fn a_rejected_or_expired_gate_follows_its_error_rules() {
    let plan = plan(
        "{version: 1, name: s, type: steps, steps: [{id: g, type: approval, timeout: 1h, on_timeout: escalate}, \
         {id: h, type: approval, timeout: 1h, on_error: fail}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.pass(Duration::from_secs(3600));
    assert_eq!(run.state.pause_reason(), Some(PauseReason::Escalated));
    run.command(Command::Resume).unwrap();
    run.tick(Input::Advance);
    let g = run.node("g");
    run.command(Command::Approve(verdict(g, 1))).unwrap();
    run.tick(Input::Advance);
    let h = run.node("h");
    run.command(Command::Reject(verdict(h, 1))).unwrap();
    run.tick(Input::Advance);
    assert_eq!(run.state.status(true), RunStatus::Failed);
    assert_eq!(run.state.error.as_ref().unwrap().kind, "rejected");
    run.check_fold();
}

#[test]
fn a_signal_is_kept_until_a_step_takes_it() {
    let plan = plan(
        "{version: 1, name: s, type: steps, steps: [{id: a, type: noop}, {id: s, type: signal, name: go}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.command(Command::Signal { name: "go".into(), payload: Payload::from(json!(1)) }).unwrap();
    let unknown = run.command(Command::Signal { name: "stop".into(), payload: Payload::null() });
    assert_eq!(unknown.unwrap_err().code, RejectionCode::UnknownSignal);
    run.succeed("a");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert_eq!(run.state.step(run.node("s")).output, Payload::from(json!(1)));
    run.check_fold();
}

#[test]
fn a_wait_ends_at_its_time_and_not_before() {
    let plan = plan("{version: 1, name: s, type: steps, steps: [{id: w, type: wait, for: 30s}]}");
    let mut run = Run::new(&plan);
    run.take();
    assert_eq!(run.state.wake_at(), Some(run.now.plus(Duration::from_secs(30))));
    run.pass(Duration::from_millis(29_999));
    assert_eq!(run.state.status(true), RunStatus::Waiting);
    run.pass(Duration::from_millis(1));
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert!(run.names().contains(&"timer.fired w".to_owned()));
}

#[test]
fn nobodys_answer_is_the_error_timeout_and_not_a_rejection() {
    for gate in [
        "type: approval, timeout: 1h, on_timeout: reject",
        "type: work, approval: {timeout: 1h, on_timeout: reject}",
    ] {
        let plan = plan(&format!(
            "{{version: 1, name: s, type: steps, steps: [{{id: g, {gate}, on_error: [\
               {{match: [rejected], action: fail}}, {{match: [timeout], action: continue}}]}}]}}"
        ));
        let mut run = Run::new(&plan);
        run.take();
        run.pass(Duration::from_secs(3600));
        assert_eq!(run.state.step(run.node("g")).error.as_ref().unwrap().kind, "timeout");
        assert_eq!(run.state.status(true), RunStatus::Completed);
    }
}

#[test]
fn a_wait_that_is_given_no_time_has_a_wrong_value() {
    for key in
        ["for: '${{ 5 }}'", "for: '${{ \"soon\" }}'", "until: '${{ \"yesterday\" }}'", "until: '${{ none }}'"]
    {
        let plan =
            plan(&format!("{{version: 1, name: s, type: steps, steps: [{{id: w, type: wait, {key}}}]}}"));
        let mut run = Run::new(&plan);
        run.take();
        assert_eq!(run.state.step(run.node("w")).error.as_ref().unwrap().kind, "schema.input", "{key}");
    }
}

#[test]
fn a_message_repeats_little_of_a_long_value_and_no_event_has_one_without_a_bound() {
    for wait in ["for", "until"] {
        let plan = plan(&format!(
            "{{version: 1, name: s, type: steps, steps: [{{id: w, type: wait, {wait}: '${{{{ \"x\" * 1000000 }}}}'}}]}}"
        ));
        let mut run = Run::new(&plan);
        run.take();
        let bytes: usize = run.log.iter().map(|event| event.body.data().len()).sum();
        assert!(bytes < 2000, "{bytes} bytes in {:?}", run.names());
    }
    let plan = plan("{version: 1, name: s, type: steps, on_error: fail, steps: [{id: a, type: work}]}");
    let mut run = Run::new(&plan);
    run.take();
    let error = windlass_model::StepError::new("http.500", "x".repeat(1_000_000));
    run.outcome("a", Outcome::Failed { error, artifacts: Vec::new() });
    assert_eq!(run.state.status(true), RunStatus::Failed);
    for event in &run.log {
        assert!(event.body.data().len() < 5000, "{}", event.body.name());
    }
    run.check_fold();
}

#[test]
fn a_run_past_its_deadline_fails_once_nothing_is_in_flight() {
    let plan = plan("{version: 1, name: s, type: steps, timeout: 1m, steps: [{id: a, type: work}]}");
    let mut run = Run::new(&plan);
    run.take();
    run.pass(Duration::from_secs(60));
    assert_eq!(run.state.status(true), RunStatus::Running);
    run.outcome("a", Outcome::Canceled);
    assert_eq!(run.state.error.as_ref().unwrap().kind, "timeout");
    assert_eq!(run.state.status(true), RunStatus::Failed);
    run.check_fold();
}

#[test]
fn a_skip_by_a_person_lets_dependents_go_on_and_resumes_the_run() {
    let plan =
        plan("{version: 1, name: d, type: dag, nodes: {a: {type: work}, b: {type: noop, needs: [a]}}}");
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    let a = run.node("a");
    run.command(Command::Skip { node: a.into() }).unwrap();
    assert_eq!(run.state.status(false), RunStatus::Queued);
    run.tick(Input::Advance);
    assert_eq!(run.in_flight(), ["b"]);
    run.check_fold();
}

#[test]
fn a_draining_engine_gives_up_what_is_in_flight_without_counting_a_death() {
    let plan = plan("{version: 1, name: s, type: steps, steps: [{id: a, type: noop}]}");
    let mut run = Run::new(&plan);
    for _ in 0..5 {
        run.take();
        run.tick(Input::Drain);
        assert_eq!(run.state.deaths, 0);
        assert_eq!(run.state.status(false), RunStatus::Queued);
    }
    run.take();
    run.succeed("a");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn nothing_of_a_delayed_run_begins_before_its_time() {
    let plan = plan("{version: 1, name: s, type: steps, timeout: 1m, steps: [{id: a, type: noop}]}");
    let start_at = Timestamp(1_000_000).plus(Duration::from_secs(60));
    let mut run = Run::created(&plan, RunCreated { start_at: Some(start_at), ..RunCreated::default() });
    assert_eq!((run.state.status(false), run.state.wake_at()), (RunStatus::Waiting, Some(start_at)));
    assert_eq!(
        run.state.deadline_at,
        Some(start_at.plus(Duration::from_secs(60))),
        "it counts from the start"
    );
    run.take();
    assert!(run.in_flight().is_empty(), "somebody looks too early");
    assert_eq!(run.state.status(false), RunStatus::Waiting);
    run.command(Command::Pause).unwrap();
    assert_eq!(run.state.wake_at(), run.state.deadline_at, "a paused run does not start by itself");
    run.command(Command::Resume).unwrap();
    assert_eq!((run.state.status(false), run.state.wake_at()), (RunStatus::Waiting, Some(start_at)));
    run.pass(Duration::from_secs(60));
    assert_eq!(run.in_flight(), ["a"]);
    run.succeed("a");
    assert_eq!(run.state.status(false), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn a_delayed_run_that_is_resumed_after_its_time_wants_an_engine() {
    let plan = plan("{version: 1, name: s, type: steps, steps: [{id: a, type: noop}]}");
    let start_at = Timestamp(1_000_000).plus(Duration::from_secs(60));
    let mut run = Run::created(&plan, RunCreated { start_at: Some(start_at), ..RunCreated::default() });
    run.command(Command::Pause).unwrap();
    run.pass(Duration::from_secs(61));
    run.command(Command::Resume).unwrap();
    assert_eq!(run.state.status(false), RunStatus::Queued);
    run.check_fold();
}
