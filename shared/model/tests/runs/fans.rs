//! Steps with items: whose turn it is, what failures come to, and what a new engine finds; and what makes one value of many.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use windlass_model::event::CompensationOutcome;
use windlass_model::{Command, EventBody, Outcome, PauseReason, Payload, Plan, RunStatus, StepStatus};

use crate::common::{Run, plan};

/// One map over `list`; `more` stands beside its `do`, `inside` in it.
fn map(list: &str, more: &str, inside: &str) -> Plan {
    plan(&format!(
        "{{version: 1, name: m, type: steps, steps: [{{id: m, type: map, each: {list}, as: it{more}, \
           do: {{type: work, value: '${{{{ it }}}}'{inside}}}}}], outputs: '${{{{ nodes.m.output }}}}'}}"
    ))
}

fn begun(plan: &Plan) -> Run<'_> {
    let mut run = Run::new(plan);
    run.take();
    run
}

fn succeed(run: &mut Run<'_>, label: &str, output: Value) {
    let output = Payload::from(output);
    run.outcome(label, Outcome::Succeeded { output, artifacts: Vec::new(), emit: None });
}

fn output(run: &Run<'_>) -> Value {
    run.check_fold();
    (**run.state.output.value().unwrap()).clone()
}

#[test]
fn outputs_come_in_the_order_of_the_items_whoever_ends_first() {
    let plan = map("[a, b, c]", "", "");
    let mut run = begun(&plan);
    assert_eq!(run.in_flight(), ["m.do[0]", "m.do[1]", "m.do[2]"]);
    for (label, value) in [("m.do[2]", "C"), ("m.do[0]", "A"), ("m.do[1]", "B")] {
        succeed(&mut run, label, json!(value));
    }
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert_eq!(run.state.size(), plan.nodes.len() + 3, "items are steps to be stored, too");
    assert_eq!(output(&run), json!(["A", "B", "C"]));
}

#[test]
fn no_more_run_side_by_side_than_the_definition_says() {
    let plan = map("[1, 2, 3, 4]", ", max_parallel: 2", "");
    let mut run = begun(&plan);
    assert_eq!(run.in_flight(), ["m.do[0]", "m.do[1]"]);
    run.succeed("m.do[1]");
    assert_eq!(run.in_flight(), ["m.do[0]", "m.do[2]"]);
    for label in ["m.do[2]", "m.do[0]", "m.do[3]"] {
        run.succeed(label);
    }
    assert_eq!(run.state.status(true), RunStatus::Completed);
}

#[test]
fn an_empty_list_is_done_at_once_and_anything_but_a_list_is_an_error() {
    let empty = map("[]", "", "");
    let run = begun(&empty);
    assert_eq!((run.state.status(true), output(&run)), (RunStatus::Completed, json!([])));
    let number = map("'${{ 1 + 1 }}'", "", "");
    let run = begun(&number);
    assert_eq!(run.state.step(run.node("m")).error.as_ref().unwrap().kind, "schema.input");
    let many = map("'${{ (range(10000) | list) + [1] }}'", "", "");
    let run = begun(&many);
    let error = run.state.step(run.node("m")).error.as_ref().unwrap();
    assert_eq!(
        (error.kind.as_str(), error.message.as_str()),
        ("limit.items", "10001 items; 10000 are allowed")
    );
}

#[test]
fn failures_within_the_tolerance_leave_a_hole_and_go_on() {
    for tolerate in ["{failed_count: 1}", "{failed_percent: 50}"] {
        let plan = map("[1, 2]", &format!(", tolerate: {tolerate}"), "");
        let mut run = begun(&plan);
        run.fail("m.do[0]", "http.404");
        succeed(&mut run, "m.do[1]", json!(2));
        assert_eq!(run.state.status(true), RunStatus::Completed, "{tolerate}");
        assert_eq!(output(&run), json!([null, 2]));
        assert_eq!(run.state.fans[&run.node("m")].failed.iter().collect::<Vec<_>>(), [&0]);
    }
}

#[test]
fn beyond_the_tolerance_nothing_more_begins_and_the_map_fails_with_a_list() {
    let plan = map("[1, 2, 3, 4]", ", max_parallel: 2", "");
    let mut run = begun(&plan);
    run.fail("m.do[0]", "http.404");
    assert_eq!(run.in_flight(), ["m.do[1]"], "what has begun may end");
    run.succeed("m.do[1]");
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed));
    let error = run.state.step(run.node("m")).error.as_ref().unwrap();
    assert_eq!(error.kind, "map.items_failed");
    let details = error.details.as_ref().unwrap();
    assert_eq!((&details["failed"], &details["count"]), (&json!(1), &json!(4)));
    assert_eq!(details["failed_items"][0]["error"]["type"], "http.404");
    run.check_fold();
}

#[test]
fn a_retry_of_the_map_does_only_what_is_left() {
    let plan = map("[1, 2, 3, 4]", ", max_parallel: 2", "");
    let mut run = begun(&plan);
    run.succeed("m.do[1]");
    run.fail("m.do[0]", "http.500");
    run.succeed("m.do[2]");
    run.command(Command::Retry { node: Some(run.key("m")) }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.in_flight(), ["m.do[0]", "m.do[3]"]);
    assert_eq!(run.state.step(run.key("m.do[0]")).attempt, 2, "attempts are counted on");
    run.succeed("m.do[0]");
    run.succeed("m.do[3]");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert_eq!(run.log.iter().filter(|it| matches!(it.body, EventBody::StepStarted(_))).count(), 5);
    run.check_fold();
}

#[test]
fn an_items_own_retries_and_rules_come_first() {
    let plan = map(
        "[1, 2, 3]",
        "",
        ", retry: {max_attempts: 2, backoff: {type: fixed, initial: 5s}}, on_error: [\
           {match: [http.404], action: continue, output: '${{ item.index ~ item.error.type }}'}, \
           {match: [http.409], action: skip}]",
    );
    let mut run = begun(&plan);
    run.fail("m.do[0]", "http.503");
    assert_eq!(run.in_flight(), ["m.do[1]", "m.do[2]"]);
    run.fail("m.do[1]", "http.404");
    run.pass(Duration::from_secs(5));
    run.fail("m.do[1]", "http.404");
    run.fail("m.do[2]", "http.409");
    run.pass(Duration::from_secs(5));
    run.fail("m.do[2]", "http.409");
    succeed(&mut run, "m.do[0]", json!("ok"));
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert_eq!(output(&run), json!(["ok", "1http.404", null]));
}

#[test]
fn a_fallback_does_it_for_its_item_alone() {
    let plan = map(
        "[1, 2]",
        "",
        ", on_error: [{match: ['*'], action: fallback, do: {type: work, value: '${{ it }}'}}]",
    );
    let mut run = begun(&plan);
    run.fail("m.do[1]", "http.500");
    assert_eq!(run.in_flight(), ["m.do[0]", "m.do.fallback[1]"]);
    succeed(&mut run, "m.do.fallback[1]", json!("else"));
    succeed(&mut run, "m.do[0]", json!("a"));
    assert_eq!(output(&run), json!(["a", "else"]));
}

#[test]
fn a_new_engine_repeats_only_what_was_in_flight_and_asks_where_it_must() {
    let plan = map("[1, 2, 3]", "", ", retry_safe: true");
    let mut run = begun(&plan);
    run.succeed("m.do[1]");
    let key = run.state.idempotency_key(&plan, run.key("m.do[2]"));
    run.take();
    assert_eq!(run.in_flight(), ["m.do[0]", "m.do[2]"]);
    assert_eq!(run.state.idempotency_key(&plan, run.key("m.do[2]")), key, "the outcome is unknown");
    assert!(key.ends_with("/m.do[2]/1"));

    let unsafe_plan = map("[1, 2, 3]", "", "");
    let mut run = begun(&unsafe_plan);
    run.succeed("m.do[1]");
    run.take();
    assert_eq!(run.state.pause_reason(), Some(PauseReason::EngineInterrupted));
    run.command(Command::Skip { node: run.key("m.do[0]") }).unwrap();
    run.command(Command::Retry { node: Some(run.key("m.do[2]")) }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.in_flight(), ["m.do[2]"]);
    succeed(&mut run, "m.do[2]", json!(3));
    assert_eq!(output(&run), json!([null, {"by": "m.do[1]"}, 3]));
}

#[test]
fn a_cancel_ends_items_and_undoes_those_that_took_effect() {
    let plan = map(
        "[1, 2, 3, 4]",
        ", max_parallel: 2",
        ", compensate: {type: work, value: '${{ item.output.by ~ it }}'}",
    );
    let mut run = begun(&plan);
    run.succeed("m.do[0]");
    run.fail("m.do[1]", "http.500");
    run.command(Command::Cancel { reason: None }).unwrap();
    run.outcome("m.do[2]", Outcome::Canceled);
    let undone = ["m.do.compensate[2]", "m.do.compensate[0]"];
    for label in undone {
        assert_eq!(
            run.in_flight(),
            [label],
            "what failed for sure is not undone, what may have been done is"
        );
        run.succeed(label);
    }
    assert_eq!(run.state.status(true), RunStatus::Canceled);
    let EventBody::RunCanceled(end) = &run.log.last().unwrap().body else { panic!("{:?}", run.names()) };
    assert_eq!(end.compensation, Some(CompensationOutcome::Succeeded));
    run.check_fold();
}

#[test]
fn a_paused_run_lets_no_item_begin_until_it_is_resumed() {
    let plan = map("[1, 2, 3]", ", max_parallel: 1", "");
    let mut run = begun(&plan);
    run.command(Command::Pause).unwrap();
    run.succeed("m.do[0]");
    assert!(run.in_flight().is_empty());
    run.command(Command::Resume).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.in_flight(), ["m.do[1]"]);
    let refused = run.command(Command::Skip { node: run.key("m") }).unwrap_err();
    assert_eq!(refused.code.as_str(), "wrong_step_state");
    assert_eq!(run.state.step(run.node("m")).status, StepStatus::Waiting);
}

fn loops(condition: &str, inside: &str) -> Plan {
    plan(&format!(
        "{{version: 1, name: l, type: steps, steps: [{{id: l, type: loop, {condition}, max_iterations: 3, \
           do: {{type: work, value: '${{{{ loop.last }}}}'{inside}}}}}], outputs: '${{{{ nodes.l.output }}}}'}}"
    ))
}

#[test]
fn a_loop_goes_round_after_round_until_it_is_told_to_end() {
    let plan = loops("until: loop.last.done", "");
    let mut run = begun(&plan);
    assert_eq!(run.in_flight(), ["l.do[0]"]);
    succeed(&mut run, "l.do[0]", json!({"done": false}));
    assert_eq!(run.in_flight(), ["l.do[1]"]);
    succeed(&mut run, "l.do[1]", json!({"done": true, "n": 7}));
    assert_eq!(run.state.status(true), RunStatus::Completed);
    assert_eq!(output(&run), json!({"last": {"done": true, "n": 7}, "iterations": 2}));
}

#[test]
fn a_loop_that_asks_first_may_not_go_round_at_all() {
    let plan = loops("while: loop.index > 0", "");
    let run = begun(&plan);
    assert_eq!(output(&run), json!({"last": null, "iterations": 0}));
}

#[test]
fn before_the_first_round_there_is_null_and_nothing_in_it() {
    let plan = loops("while: \"loop.last is none or loop.last.n | default(0) < 1\"", "");
    let mut run = begun(&plan);
    assert_eq!(run.in_flight(), ["l.do[0]"]);
    succeed(&mut run, "l.do[0]", json!({"n": 1}));
    assert_eq!(output(&run), json!({"last": {"n": 1}, "iterations": 1}));

    let plan = loops("while: \"(loop.last.n | default(7)) == 7\"", "");
    assert_eq!(begun(&plan).in_flight(), ["l.do[0]"]);
    let plan = loops("while: loop.last.n", "");
    let run = begun(&plan);
    let error = run.state.step(run.node("l")).error.as_ref().unwrap();
    assert!(error.message.ends_with("`loop.last.n` is undefined"), "{}", error.message);
}

#[test]
fn a_loop_that_does_not_end_is_ended_by_its_bound() {
    let plan = loops("while: true", "");
    let mut run = begun(&plan);
    for round in 0..3 {
        run.succeed(&format!("l.do[{round}]"));
    }
    let error = run.state.step(run.node("l")).error.as_ref().unwrap();
    assert_eq!(error.kind, "limit.iterations");
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed));
    run.check_fold();
}

#[test]
fn a_loop_fails_as_its_round_does_and_a_retry_repeats_that_round() {
    let plan = loops("until: loop.index == 2", ", retry_safe: true");
    let mut run = begun(&plan);
    run.succeed("l.do[0]");
    run.fail("l.do[1]", "http.500");
    assert_eq!(run.state.step(run.node("l")).error.as_ref().unwrap().kind, "http.500");
    run.command(Command::Retry { node: None }).unwrap();
    run.tick(windlass_model::Input::Advance);
    assert_eq!(run.in_flight(), ["l.do[1]"]);
    run.take();
    assert_eq!(run.in_flight(), ["l.do[1]"], "a new engine goes on with the round that was lost");
    run.succeed("l.do[1]");
    assert_eq!(run.state.status(true), RunStatus::Completed);
}

/// What a join makes of the outputs of three nodes, or of what `more` says.
fn joined(more: &str, outputs: [Value; 3]) -> Result<Value, String> {
    let plan = plan(&format!(
        "{{version: 1, name: j, type: dag, outputs: '${{{{ nodes.j.output }}}}', nodes: {{\
           a: {{type: work}}, b: {{type: work}}, c: {{type: work}}, \
           j: {{type: join, needs: [a, b, c], {more}}}}}}}"
    ));
    let mut run = begun(&plan);
    for (label, value) in ["a", "b", "c"].into_iter().zip(outputs) {
        succeed(&mut run, label, value);
    }
    match &run.state.step(run.node("j")).error {
        Some(error) => Err(error.kind.clone()),
        None => Ok(output(&run)),
    }
}

#[test]
fn a_join_merges_collects_and_reduces_what_there_is() {
    let objects = || [json!({"x": 1, "y": 1}), Value::Null, json!({"y": 2})];
    assert_eq!(joined("strategy: merge", objects()), Ok(json!({"x": 1, "y": 2})));
    assert_eq!(joined("strategy: collect", objects()), Ok(json!({"a": {"x": 1, "y": 1}, "c": {"y": 2}})));
    let over = "strategy: collect, over: '${{ [nodes.c.output, none, 5] }}'";
    assert_eq!(joined(over, [json!(1), json!(2), json!(3)]), Ok(json!([3, 5])));
    let sum = "strategy: reduce, initial: 10, reduce: '${{ acc + item.value * (item.index + 1) }}'";
    assert_eq!(joined(sum, [json!(1), json!(2), json!(3)]), Ok(json!(24)));
    assert_eq!(joined("strategy: merge", [json!(1), json!(2), json!(3)]), Err("schema.input".into()));
    assert_eq!(joined("strategy: merge, over: '${{ 1 }}'", objects()), Err("schema.input".into()));
}

#[test]
fn a_vote_needs_as_many_as_the_definition_says() {
    let votes = || [json!("yes"), json!("no"), json!("yes")];
    assert_eq!(joined("strategy: vote", votes()), Ok(json!({"value": "yes", "votes": 2, "of": 3})));
    assert_eq!(joined("strategy: vote, quorum: 3", votes()), Err("join.no_quorum".into()));
    let split = [json!(1), json!(2), json!(3)];
    assert_eq!(joined("strategy: vote", split), Err("join.no_quorum".into()));
    let half = "strategy: vote, over: '${{ [1, 1, 2, 3] }}'";
    assert_eq!(joined(half, votes()), Err("join.no_quorum".into()), "a half is no majority");
}

/// Nothing that happens to one item looks at the others, so the last thousands of ten thousand cost what the first
/// did. The quickest of five is compared, because machines have other things to do; looking would cost hundreds of times as much.
#[test]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn an_item_costs_the_same_at_the_end_as_at_the_beginning() {
    let plan = map("'${{ range(10000) | list }}'", ", max_parallel: 16, slice: 10000", "");
    let mut run = begun(&plan);
    let mut thousands = Vec::new();
    for thousand in 0..10 {
        let since = Instant::now();
        for item in 0..1_000 {
            run.succeed(&format!("m.do[{}]", thousand * 1_000 + item));
        }
        thousands.push(since.elapsed());
    }
    assert_eq!(run.state.status(true), RunStatus::Completed);
    let (first, last) = thousands.split_at(5);
    assert!(last.iter().min() < first.iter().min().map(|quickest| *quickest * 10).as_ref(), "{thousands:?}");
}
