//! Runs that go on from what another one did, and runs whose state people edit.

use std::collections::BTreeMap;

use serde_json::{Map, json};
use uuid::Uuid;
use windlass_model::command::RejectionCode;
use windlass_model::decide::{Again, Continuation, continue_from};
use windlass_model::event::{OriginReason, RunCreated};
use windlass_model::{Command, EventBody, NodeIndex, Payload, Plan, RunId, RunStatus, StepStatus};

use crate::common::{Run, plan};

/// `a` and `b` are done, `c` has failed and waits for a person; `d` comes after it.
const CHAIN: &str = "{version: 1, name: chain, type: steps, steps: [\
    {id: a, type: work, compensate: {type: work}}, {id: b, type: noop}, {id: c, type: work}, {id: d, type: noop}]}";

fn stuck(plan: &Plan) -> Run<'_> {
    let mut run = Run::new(plan);
    run.take();
    run.succeed("a");
    run.succeed("b");
    run.fail("c", "http.500");
    assert_eq!(run.state.status(true), RunStatus::Paused);
    run
}

fn continued(before: &Run<'_>, plan: &Plan, again: Again, because: OriginReason) -> Continuation {
    continue_from(before.plan, &before.state, plan, again, because).unwrap()
}

fn start<'a>(plan: &'a Plan, continuation: Continuation) -> Run<'a> {
    let origin = Some(Box::new(continuation.origin));
    let mut run = Run::created(plan, RunCreated { origin, ..RunCreated::default() });
    run.take();
    run
}

fn edit(outputs: impl IntoIterator<Item = (NodeIndex, serde_json::Value)>) -> Command {
    let outputs: BTreeMap<_, _> = outputs.into_iter().map(|(node, it)| (node, Payload::from(it))).collect();
    Command::Edit { outputs, context: Map::new() }
}

#[test]
fn from_a_step_what_ended_well_before_it_is_reused_and_the_rest_runs() {
    let plan = plan(CHAIN);
    let before = stuck(&plan);
    let found = continued(&before, &plan, Again::From(plan.by_id["b"]), OriginReason::Rerun);
    assert_eq!(
        (found.reused.clone(), found.runs.clone()),
        (vec!["a".into()], vec!["b".into(), "c".into(), "d".into()])
    );

    let mut run = start(&plan, found);
    assert_eq!(run.in_flight(), ["b"]);
    let a = run.state.step(run.node("a"));
    assert_eq!((a.status, a.reused, a.attempt), (StepStatus::Succeeded, true, 0));
    assert_eq!(**a.output.value().unwrap(), json!({"by": "a"}));
    for step in ["b", "c", "d"] {
        run.succeed(step);
    }
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn nothing_goes_on_from_a_run_that_moves() {
    let plan = plan(CHAIN);
    let mut run = Run::new(&plan);
    let from = |run: &Run<'_>| {
        continue_from(&plan, &run.state, &plan, Again::Everything, OriginReason::Rerun).map_err(|it| it.code)
    };
    assert_eq!(from(&run).unwrap_err(), RejectionCode::WrongState);
    run.take();
    run.command(Command::Pause).unwrap();
    assert_eq!(from(&run).unwrap_err(), RejectionCode::WrongState, "its step is still in flight");
    run.succeed("a");
    assert!(from(&run).is_ok());
}

#[test]
fn from_the_beginning_everything_runs() {
    let plan = plan(CHAIN);
    let found = continued(&stuck(&plan), &plan, Again::Everything, OriginReason::Rerun);
    assert_eq!((found.reused.len(), found.runs.len()), (0, 4));
    assert_eq!(start(&plan, found).in_flight(), ["a"]);
}

#[test]
fn a_step_after_one_that_did_not_end_well_runs_even_when_it_is_not_asked_for() {
    let plan = plan(CHAIN);
    let found = continued(&stuck(&plan), &plan, Again::From(plan.by_id["d"]), OriginReason::Rerun);
    assert_eq!(found.runs, ["c", "d"]);
}

#[test]
fn what_is_reused_is_not_undone_by_the_run_that_reuses_it() {
    let (old, new) = (plan(CHAIN), plan(&CHAIN.replace("type: steps,", "type: steps, on_error: fail,")));
    let found = continued(&stuck(&old), &new, Again::From(new.by_id["c"]), OriginReason::Rerun);
    assert_eq!(found.reused, ["a", "b"]);
    let mut run = start(&new, found);
    run.fail("c", "http.500");
    assert_eq!(run.state.status(true), RunStatus::Failed, "{:?}", run.names());
    run.check_fold();
}

/// `a` and `b` were done and can be undone, `c` has failed for good: `b` is undone first.
fn undoing(plan: &Plan) -> Run<'_> {
    let mut run = Run::new(plan);
    run.take();
    for step in ["a", "b", "z"] {
        run.succeed(step);
    }
    run.fail("c", "http.500");
    assert_eq!(run.in_flight(), ["b.compensate"]);
    run
}

const UNDONE: &str = "{version: 1, name: undone, type: dag, on_error: fail, nodes: {\
    a: {type: work, compensate: {type: work}}, b: {type: work, needs: [a], compensate: {type: work}}, \
    z: {type: noop, needs: [b]}, c: {type: work, needs: [z]}}}";

#[test]
fn what_was_undone_is_done_again_and_so_is_what_needs_it() {
    let plan = plan(UNDONE);
    let mut before = undoing(&plan);
    before.succeed("b.compensate");
    before.succeed("a.compensate");
    assert_eq!(before.state.status(true), RunStatus::Failed);
    for again in [Again::From(plan.by_id["c"]), Again::Unfinished] {
        let found = continued(&before, &plan, again, OriginReason::Rerun);
        assert_eq!(found.runs, ["a", "b", "z", "c"]);
    }
    let found = continued(&before, &plan, Again::From(plan.by_id["c"]), OriginReason::Rerun);
    assert_eq!(start(&plan, found).in_flight(), ["a"]);
}

#[test]
fn what_may_have_been_undone_is_done_again_and_what_nobody_began_to_undo_is_not() {
    let plan = plan(UNDONE);
    let failed = |run: &mut Run<'_>| run.fail("b.compensate", "http.500");
    let unknown = |run: &mut Run<'_>| run.take();
    for undo in [&failed as &dyn Fn(&mut Run<'_>), &unknown] {
        let mut before = undoing(&plan);
        undo(&mut before);
        assert_eq!(before.state.status(true), RunStatus::Paused, "{:?}", before.names());
        let found = continued(&before, &plan, Again::From(plan.by_id["c"]), OriginReason::Rerun);
        assert_eq!((found.reused, found.runs), (vec!["a".into()], vec!["b".into(), "z".into(), "c".into()]));
    }
}

#[test]
fn a_map_one_of_whose_items_was_undone_is_done_again() {
    let plan = plan(
        "{version: 1, name: items, type: steps, on_error: fail, steps: [\
           {id: m, type: map, each: [1, 2], do: {type: work, compensate: {type: work}}}, {id: c, type: work}]}",
    );
    let mut before = Run::new(&plan);
    before.take();
    before.succeed("m.do[0]");
    before.succeed("m.do[1]");
    before.fail("c", "http.500");
    before.fail("m.do.compensate[1]", "http.500");
    let found = continued(&before, &plan, Again::From(plan.by_id["c"]), OriginReason::Rerun);
    assert_eq!(found.runs, ["m", "c"]);
}

#[test]
fn whoever_takes_the_place_of_a_run_undoes_what_that_one_did() {
    let old = plan(CHAIN);
    let mut before = stuck(&old);
    let new = plan(
        &CHAIN
            .replace("type: steps,", "type: steps, on_error: fail,")
            .replace("{id: d, type: noop}", "{id: e, type: noop}"),
    );
    before.command(Command::Move { to: RunId(Uuid::from_u128(9)) }).unwrap();
    assert_eq!(before.state.status(false), RunStatus::Canceled);
    let found = continued(&before, &new, Again::Unfinished, OriginReason::Move);
    assert_eq!(
        (found.reused.clone(), found.runs.clone()),
        (vec!["a".into(), "b".into()], vec!["c".into(), "e".into()])
    );
    assert!(found.forgotten.is_empty());

    let mut run = start(&new, found);
    run.fail("c", "http.500");
    assert_eq!(run.in_flight(), ["a.compensate"]);
    run.succeed("a.compensate");
    assert_eq!(run.state.status(true), RunStatus::Failed);
    run.check_fold();
}

#[test]
fn a_version_that_cannot_undo_what_was_done_is_found_out() {
    let old = plan(CHAIN);
    let new = plan(&CHAIN.replace("{id: a, type: work, compensate: {type: work}}", "{id: a, type: work}"));
    let found = continued(&stuck(&old), &new, Again::Unfinished, OriginReason::Move);
    assert_eq!(found.forgotten, ["a"]);
}

#[test]
fn a_node_of_another_kind_is_another_node() {
    let old = plan(CHAIN);
    let new = plan(&CHAIN.replace("{id: b, type: noop}", "{id: b, type: work}"));
    let found = continued(&stuck(&old), &new, Again::Unfinished, OriginReason::Move);
    assert_eq!((found.reused, found.runs), (vec!["a".into()], vec!["b".into(), "c".into(), "d".into()]));
}

#[test]
fn a_branch_that_was_not_taken_stays_so() {
    let plan = plan(
        "{version: 1, name: fork, type: dag, nodes: {\
           s: {type: switch, cases: [{when: \"${{ true }}\", then: [l]}], default: [r]}, \
           l: {type: work, needs: [s]}, r: {type: work, needs: [s]}}}",
    );
    let mut before = Run::new(&plan);
    before.take();
    let output = Payload::from(json!({"taken": ["l"]}));
    before.outcome("s", windlass_model::Outcome::Succeeded { output, artifacts: vec![], emit: None });
    before.fail("l", "http.500");
    let found = continued(&before, &plan, Again::From(plan.by_id["l"]), OriginReason::Rerun);
    assert_eq!(found.reused, ["s", "r"]);
    let mut run = start(&plan, found);
    assert_eq!(run.in_flight(), ["l"]);
    run.succeed("l");
    assert_eq!(run.state.status(true), RunStatus::Completed);
}

#[test]
fn an_edited_step_that_had_failed_succeeds_with_what_a_person_says() {
    let plan = plan(CHAIN);
    let mut run = stuck(&plan);
    run.command(edit([(plan.by_id["c"], json!(5)), (plan.by_id["b"], json!("new"))])).unwrap();
    assert_eq!(run.state.status(true), RunStatus::Paused, "nobody has said that it shall go on");
    let (b, c) = (run.state.step(run.node("b")).clone(), run.state.step(run.node("c")).clone());
    assert_eq!((b.status, c.status), (StepStatus::Succeeded, StepStatus::Succeeded));
    assert_eq!((&**b.output.value().unwrap(), &**c.output.value().unwrap()), (&json!("new"), &json!(5)));
    run.command(Command::Resume).unwrap();
    run.take();
    assert_eq!(run.in_flight(), ["d"]);
    run.succeed("d");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn an_edit_that_breaks_a_promise_changes_nothing() {
    let plan =
        plan(&CHAIN.replace("{id: b, type: noop}", "{id: b, type: noop, output_schema: {type: object}}"));
    let mut run = stuck(&plan);
    let refused = run.command(edit([(plan.by_id["a"], json!(1)), (plan.by_id["b"], json!(2))])).unwrap_err();
    assert_eq!(refused.code, RejectionCode::InvalidPayload, "{refused}");
    let refused = run.command(edit([(plan.by_id["a.compensate"], json!(1))])).unwrap_err();
    assert_eq!(refused.code, RejectionCode::WrongStepState, "{refused}");
    let context = [("x".to_owned(), json!(1))].into_iter().collect();
    let refused = run.command(Command::Edit { outputs: BTreeMap::new(), context }).unwrap_err();
    assert_eq!(refused.code, RejectionCode::WrongState, "{refused}");
}

#[test]
fn a_machine_remembers_what_a_person_sets() {
    let plan = plan(
        "{version: 1, name: m, type: machine, context: {n: 0, kept: 1}, events: {GO: {}}, initial: idle, states: {\
           idle: {on: {GO: {guard: \"${{ context.n > 3 }}\", target: end}}}, \
           end: {type: final, output: {n: \"${{ context.n }}\", kept: \"${{ context.kept }}\"}}}}",
    );
    let mut run = Run::new(&plan);
    run.take();
    run.command(Command::Pause).unwrap();
    let context = [("n".to_owned(), json!(4))].into_iter().collect();
    run.command(Command::Edit { outputs: BTreeMap::new(), context }).unwrap();
    run.command(Command::Resume).unwrap();
    run.command(Command::Signal { name: "GO".into(), payload: Payload::null() }).unwrap();
    run.take();
    let EventBody::RunCompleted(end) = &run.log.last().unwrap().body else { panic!("{:?}", run.names()) };
    assert_eq!(**end.output.value().unwrap(), json!({"n": 4, "kept": 1}));
    run.check_fold();
}
