//! What follows from a failure, rule by rule.

use std::time::Duration;

use serde_json::json;
use windlass_model::command::Verdict;
use windlass_model::event::RuleAction;
use windlass_model::{Command, EventBody, NodeIndex, Outcome, PauseReason, Payload, RunStatus, StepStatus};

use crate::common::{Run, plan};

/// A run of `a`, which fails by these rules, and of `b`, which needs it.
fn with_rules(rules: &str) -> windlass_model::Plan {
    plan(&format!(
        "{{version: 1, name: d, type: dag, nodes: {{a: {{type: work, on_error: {rules}}}, b: {{type: noop, needs: [a]}}}}, \
         outputs: '${{{{ nodes.a.output }}}}'}}"
    ))
}

/// Which rules have decided, and how.
fn routed(run: &Run<'_>) -> Vec<(String, RuleAction)> {
    let bodies = run.log.iter().map(|event| &event.body);
    bodies
        .filter_map(|body| match body {
            EventBody::ErrorRouted(body) => Some((body.rule.clone(), body.action)),
            _ => None,
        })
        .collect()
}

fn verdict(node: NodeIndex, attempt: u16) -> Verdict {
    Verdict { node, attempt, digest: None, comment: None, form: Payload::null() }
}

#[test]
fn a_rule_retries_until_its_attempts_are_used_up_and_then_the_next_rule_decides() {
    let plan = with_rules(
        "[{match: [http.5xx], action: retry, max_attempts: 3, backoff: {type: fixed, initial: 1s}}, \
          {match: ['*'], action: fail}]",
    );
    let mut run = Run::new(&plan);
    run.take();
    for _ in 0..2 {
        run.fail("a", "http.503");
        assert_eq!(run.state.status(true), RunStatus::Waiting);
        run.pass(Duration::from_secs(1));
        assert_eq!(run.in_flight(), ["a"]);
    }
    run.fail("a", "http.503");
    assert_eq!(run.state.status(true), RunStatus::Failed);
    let first = ("/nodes/a/on_error/0".to_owned(), RuleAction::Retry);
    let last = ("/nodes/a/on_error/1".to_owned(), RuleAction::Fail);
    assert_eq!(routed(&run), [first.clone(), first, last]);
    run.check_fold();
}

#[test]
fn an_agent_that_is_away_is_looked_for_until_patience_ends_and_then_the_next_rule_decides() {
    let plan = with_rules(
        "[{match: [agent.offline], action: wait_for_agent, timeout: 1h}, {match: ['*'], action: fail}]",
    );
    let mut run = Run::new(&plan);
    run.take();
    let (mut looks, mut waited) = (0, Duration::ZERO);
    loop {
        run.fail("a", "agent.offline");
        if run.state.status(true) != RunStatus::Waiting {
            break;
        }
        let at = run.state.step(NodeIndex(0)).wait.as_ref().and_then(|wait| wait.until).expect("a time");
        let pause = run.now.until(at);
        assert!(
            pause <= Duration::from_secs(1).max(waited / 8).min(Duration::from_secs(300)),
            "{pause:?} after {waited:?}"
        );
        (looks, waited) = (looks + 1, waited + pause);
        run.pass(pause);
        assert_eq!(run.in_flight(), ["a"]);
    }
    assert_eq!((run.state.status(true), waited), (RunStatus::Failed, Duration::from_secs(3600)));
    assert!((30..80).contains(&looks), "{looks} looks in an hour");
    let routed = routed(&run);
    assert_eq!(routed.last(), Some(&("/nodes/a/on_error/1".to_owned(), RuleAction::Fail)));
    assert!(routed[..looks].iter().all(|(_, action)| *action == RuleAction::WaitForAgent));
    run.check_fold();
}

#[test]
fn patience_with_an_agent_begins_anew_after_another_failure_and_when_a_person_asks() {
    let plan = with_rules(
        "[{match: [agent.offline], action: wait_for_agent, timeout: 4s}, \
          {match: [http.5xx], action: retry, max_attempts: 1000, backoff: {type: fixed, initial: 1s}}]",
    );
    let mut run = Run::new(&plan);
    run.take();
    let away = |run: &mut Run<'_>, seconds: u64| {
        for _ in 0..seconds {
            run.fail("a", "agent.offline");
            run.pass(Duration::from_secs(1));
            assert_eq!(run.in_flight(), ["a"]);
        }
    };
    away(&mut run, 3);
    run.fail("a", "http.503");
    run.pass(Duration::from_secs(1));
    away(&mut run, 4);
    run.fail("a", "agent.offline");
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed), "no other rule matches");
    run.command(Command::Resume).expect("it is paused");
    run.take();
    away(&mut run, 4);
}

#[test]
fn handlers_of_the_workflow_come_after_the_nodes_own_rules_and_name_nodes_and_errors() {
    let plan = plan(
        "{version: 1, name: d, type: dag, error_handlers: [\
           {node_pattern: 'pay*', error_type: http.5xx, action: {type: continue, output: late}}, \
           {error_type: [timeout, http.4xx], action: fail}], on_error: skip, nodes: {\
           pay_in: {type: work, on_error: [{match: [http.404], action: continue, output: own}]}, other: {type: work}}, \
         outputs: '${{ nodes.pay_in.output }}'}",
    );
    for (error, rule, action) in [
        ("http.404", "/nodes/pay_in/on_error/0", RuleAction::Continue),
        ("http.500", "/error_handlers/0", RuleAction::Continue),
        ("http.403", "/error_handlers/1", RuleAction::Fail),
        ("expression", "/on_error", RuleAction::Skip),
    ] {
        let mut run = Run::new(&plan);
        run.take();
        run.fail("pay_in", error);
        assert_eq!(routed(&run), [(rule.to_owned(), action)], "{error}");
    }
    let mut run = Run::new(&plan);
    run.take();
    run.fail("other", "http.500");
    assert_eq!(routed(&run)[0].0, "/on_error", "its id is not what the pattern names");
    run.check_fold();
}

#[test]
fn a_decision_is_written_with_the_failure_and_costs_no_commit_of_its_own() {
    let plan = with_rules("[{match: ['*'], action: continue}]");
    let mut run = Run::new(&plan);
    run.take();
    let before = run.names().len();
    run.fail("a", "timeout");
    assert_eq!(run.names()[before..], ["step.failed a", "error.routed a", "step.started b"]);
}

#[test]
fn skip_drops_the_step_and_what_needs_it() {
    let plan = with_rules("skip");
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    let statuses: Vec<_> = run.state.steps.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [StepStatus::Skipped, StepStatus::Skipped]);
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn a_fallback_value_makes_the_step_succeed() {
    let plan = with_rules("[{match: ['*'], action: fallback, output: '${{ nodes.a.error.type }}'}]");
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    assert_eq!(run.state.step(run.node("a")).status, StepStatus::Succeeded);
    assert_eq!(run.in_flight(), ["b"]);
    run.succeed("b");
    assert_eq!(run.state.output, Payload::from(json!("http.500")));
    run.check_fold();
}

#[test]
fn a_fallback_node_takes_over_and_the_step_ends_as_it_does() {
    let plan = with_rules(
        "[{match: ['*'], action: fallback, do: {type: work, retry: {max_attempts: 2, backoff: {type: fixed, initial: 1s}}}}]",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    assert_eq!(run.in_flight(), ["a.fallback"]);
    let a = run.node("a");
    assert_eq!(run.command(Command::Skip { node: a.into() }).unwrap_err().code.as_str(), "wrong_step_state");
    run.fail("a.fallback", "http.500");
    run.pass(Duration::from_secs(1));
    run.succeed("a.fallback");
    assert_eq!(run.state.step(a).status, StepStatus::Succeeded);
    assert_eq!(run.state.step(a).output, Payload::from(json!({"by": "a.fallback"})));
    run.succeed("b");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();

    let mut run = Run::new(&plan);
    run.take();
    run.fail("a", "http.500");
    run.fail("a.fallback", "schema.output");
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed));
    let fallback = run.node("a.fallback");
    run.command(Command::Skip { node: fallback.into() }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.state.step(a).status, StepStatus::Skipped);
    assert_eq!(run.in_flight(), ["b"], "a person's skip lets the run go on");
    run.check_fold();
}

#[test]
fn a_fallback_that_nobody_called_is_neither_run_nor_waited_for() {
    let plan = with_rules("[{match: ['*'], action: fallback, do: {type: work}}]");
    let mut run = Run::new(&plan);
    run.take();
    let fallback = run.node("a.fallback");
    assert_eq!(
        run.command(Command::Skip { node: fallback.into() }).unwrap_err().code.as_str(),
        "wrong_step_state"
    );
    run.succeed("a");
    run.succeed("b");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert!(!run.names().iter().any(|name| name.contains("fallback")));
}

#[test]
fn escalate_asks_the_people_whom_the_rule_names_and_goes_on_as_they_say() {
    let plan =
        with_rules("[{match: ['*'], action: escalate, approvers: {any_of: ['user:zoe']}, timeout: 1h}]");
    let a = NodeIndex(0);
    let asked = || {
        let mut run = Run::new(&plan);
        run.take();
        run.fail("a", "http.500");
        assert_eq!(run.state.pause_reason(), Some(PauseReason::Escalated));
        let refused = run.command(Command::Approve(verdict(a, 2))).unwrap_err();
        assert_eq!(refused.code.as_str(), "not_an_approver");
        run
    };
    let zoe = windlass_model::Actor::user("zoe");

    let mut run = asked();
    run.command_by(Command::Approve(verdict(a, 2)), zoe.clone()).unwrap();
    assert_eq!(run.state.status(false), RunStatus::Queued, "the decision resumes the run");
    run.tick(windlass_model::Input::Advance);
    assert_eq!((run.in_flight(), run.state.step(a).attempt), (vec!["a".to_owned()], 2));
    run.succeed("a");
    run.succeed("b");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();

    let mut run = asked();
    run.command_by(Command::Reject(verdict(a, 2)), zoe).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.state.status(true), RunStatus::Failed);
    assert_eq!(run.state.error.as_ref().unwrap().kind, "rejected");
    run.check_fold();

    let mut run = asked();
    run.command(Command::Resume).unwrap();
    assert!(run.in_flight().is_empty(), "resume does not open a gate");
    run.pass(Duration::from_secs(3600));
    assert_eq!(run.state.error.as_ref().unwrap().kind, "timeout");
    run.check_fold();
}

#[test]
fn an_output_that_breaks_its_schema_is_an_error_of_its_own() {
    let plan = plan(
        "{version: 1, name: s, type: steps, steps: [{id: a, type: work, retry: {max_attempts: 3}, \
         output_schema: {type: object, required: [id], properties: {by: {type: integer}}}}]}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.succeed("a");
    let error = run.state.step(run.node("a")).error.clone().unwrap();
    assert_eq!(error.kind, "schema.output");
    assert!(error.message.contains("output/by") && error.message.contains("id"), "{}", error.message);
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed), "doing it again would not mend it");
    let good = Payload::from(json!({"id": 1}));
    run.command(Command::Retry { node: None }).unwrap();
    run.tick(windlass_model::Input::Advance);
    run.outcome("a", Outcome::Succeeded { output: good, artifacts: Vec::new(), emit: None });
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}
