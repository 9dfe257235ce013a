//! Large maps: their items are dealt out to runs of their own, and nobody can tell from what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_model::event::RunCreated;
use windlass_model::open_work::Work;
use windlass_model::plan::Role;
use windlass_model::workflow::expression::Context;
use windlass_model::workflow::{Document, Format, compile};
use windlass_model::{
    ChildEnd, Command, EventBody, Input, Outcome, PauseReason, Payload, Plan, RunStatus, StepError, open_work,
};

use crate::common::{Run, catalog, plan};

/// A map over `count` items, in slices of four; `more` stands beside its `do`, `inside` in it.
fn map(count: u32, more: &str, inside: &str) -> Plan {
    map_in(4, count, more, inside)
}

fn map_in(slice: u32, count: u32, more: &str, inside: &str) -> Plan {
    plan(&format!(
        "{{version: 1, name: m, type: steps, inputs: {{type: object}}, steps: [{{id: m, type: map, \
           each: '${{{{ range({count}) | list }}}}', as: it, slice: {slice}{more}, do: {{type: work, \
           value: '${{{{ [it, item.index, item.count] }}}}'{inside}}}}}], outputs: '${{{{ nodes.m.output }}}}'}}"
    ))
}

fn begun(plan: &Plan) -> Run<'_> {
    let mut run = Run::new(plan);
    run.take();
    run
}

/// The run that a slice starts, as an engine gets it ready.
fn slice<'p>(run: &Run<'p>, label: &str) -> Run<'p> {
    let key = run.key(label);
    let Role::Workflow(called) = &run.plan.node(key).role else { panic!("{label} starts no run") };
    let body = called.body(key.item).expect("a slice is a body");
    let inputs = body.inputs(&Context::new(run.plan, &run.state).with_step(key)).unwrap();
    let mut slice = Run::created(&body.plan, RunCreated { inputs: inputs.into(), ..RunCreated::default() });
    slice.take();
    slice
}

/// Items that have failed so far, and how often each was done.
#[derive(Default)]
struct Deeds {
    fail: BTreeSet<u32>,
    done: BTreeMap<u32, u32>,
}

/// Plays a run until it rests: each item gives ten times itself, unless it is to fail.
fn play(run: &mut Run<'_>, deeds: &mut Deeds) {
    while let Some(work) = next_work(run) {
        let label = run.plan.label(work.key()).into_owned();
        if run.plan.node(work.node).is_slice() {
            let mut slice = slice(run, &label);
            run.succeed(&label);
            play(&mut slice, deeds);
            slice.check_fold();
            run.child_ends(run.child_of(&label), end(&slice));
            continue;
        }
        let item = work.item.expect("only items work");
        if deeds.fail.contains(&item) {
            run.fail(&label, "http.500");
            continue;
        }
        *deeds.done.entry(item).or_default() += 1;
        let context = Context::new(run.plan, &run.state).with_step(work.key());
        let seen = run.plan.node(work.node).params.render(&context).unwrap();
        let output = Payload::from(json!({ "saw": seen["value"] }));
        run.outcome(&label, Outcome::Succeeded { output, artifacts: Vec::new(), emit: None });
    }
}

/// What is in flight, once the times have come that the run waits for.
fn next_work(run: &mut Run<'_>) -> Option<Work> {
    loop {
        let work = open_work(&run.state).next();
        match (work, run.state.wake_at()) {
            (None, Some(at)) => {
                run.now = at;
                run.tick(Input::Advance);
            }
            _ => return work,
        }
    }
}

fn end(run: &Run<'_>) -> ChildEnd {
    match run.state.status(false) {
        RunStatus::Completed => ChildEnd::Completed(run.state.output.clone()),
        RunStatus::Failed => ChildEnd::Failed(run.state.error.clone().unwrap()),
        other => panic!("a slice has come to {other:?}"),
    }
}

fn output(run: &Run<'_>) -> Value {
    assert_eq!(run.state.status(false), RunStatus::Completed, "{:?}", run.state.steps);
    (**run.state.output.value().unwrap()).clone()
}

#[test]
fn a_map_with_many_items_deals_them_out_and_a_small_one_does_not() {
    let small = map(4, "", "");
    assert_eq!(begun(&small).in_flight().first().map(String::as_str), Some("m.do[0]"));
    let large = map(10, "", "");
    let mut run = begun(&large);
    assert_eq!(run.in_flight(), ["m.slice[0]", "m.slice[1]", "m.slice[2]"]);
    let mut second = slice(&run, "m.slice[1]");
    assert_eq!(second.in_flight(), ["m.do[4]", "m.do[5]"], "the slices share what may run side by side");
    play(&mut run, &mut Deeds::default());
    play(&mut second, &mut Deeds::default());
    let saw: Vec<Value> = (0..10).map(|item| json!({ "saw": [item, item, 10] })).collect();
    assert_eq!(output(&run), json!(saw));
}

#[test]
fn items_that_would_not_mean_the_same_elsewhere_stay_in_their_run_and_cannot_be_dealt_out() {
    let with = |slice: &str, inside: &str| {
        let yaml = format!(
            "{{version: 1, name: m, type: steps, steps: [{{id: m, type: map, each: [1]{slice}, do: {inside}}}]}}"
        );
        compile(&Document::parse(&yaml, Format::Yaml).unwrap(), &catalog())
    };
    for inside in [
        "{type: work, value: '${{ run.id }}'}",
        "{type: work, compensate: {type: noop}}",
        "{type: work, on_error: fail}",
        "{type: workflow, workflow: other}",
        "{steps: [{id: a, type: noop}]}",
    ] {
        assert_eq!(with("", inside).unwrap().nodes[0].slices(), None, "{inside}");
        let problems = with(", slice: 10", inside).unwrap_err();
        assert_eq!((problems.len(), problems[0].pointer.as_str()), (1, "/steps/0/slice"), "{problems:#?}");
    }
    let slices = with("", "{type: work, on_error: pause}").unwrap().nodes[0].slices().unwrap();
    assert_eq!((slices.above, slices.size, slices.parallel_max), (1_000, 250, 8));
}

#[test]
fn no_more_slices_are_under_way_than_the_map_may_do_side_by_side() {
    for (more, slices, each) in [(", max_parallel: 1", 1, 1), (", max_parallel: 2", 2, 1), ("", 8, 2)] {
        let plan = map(100, more, "");
        let run = begun(&plan);
        assert_eq!(run.in_flight().len(), slices, "{more}");
        assert_eq!(slice(&run, "m.slice[0]").in_flight().len(), each, "{more}");
    }
}

#[test]
fn failures_are_counted_over_all_slices_and_listed_by_their_numbers() {
    let plan = map(10, ", tolerate: {failed_count: 2}", "");
    let mut run = begun(&plan);
    let mut deeds = Deeds { fail: [1, 9].into(), ..Deeds::default() };
    play(&mut run, &mut deeds);
    let given = output(&run);
    assert_eq!((&given[1], &given[9], &given[8]), (&Value::Null, &Value::Null, &json!({"saw": [8, 8, 10]})));
    let fan = &run.state.fans[&run.node("m")];
    assert_eq!(fan.failed, [1, 9].into());
    assert_eq!(fan.slices.as_ref().unwrap().errors[&9].kind, "http.500");
    run.check_fold();
}

#[test]
fn beyond_the_tolerance_no_further_slice_begins_and_a_retry_does_only_what_is_left() {
    let plan = map(20, ", max_parallel: 1, tolerate: {failed_count: 1}", "");
    let mut run = begun(&plan);
    let mut deeds = Deeds { fail: [0, 5, 6].into(), ..Deeds::default() };
    play(&mut run, &mut deeds);
    assert_eq!(run.state.pause_reason(), Some(PauseReason::StepFailed));
    let error = run.state.step(run.node("m")).error.clone().unwrap();
    assert_eq!(error.kind, "map.items_failed");
    let details = error.details.unwrap();
    assert_eq!((&details["failed"], &details["count"]), (&json!(3), &json!(20)));
    assert_eq!(
        details["failed_items"][1],
        json!({"index": 5, "error": {"type": "http.500", "message": "it broke"}})
    );
    assert_eq!(
        deeds.done.keys().copied().collect::<Vec<_>>(),
        [1, 2, 3, 4],
        "7 was left, and so were others"
    );

    deeds.fail.clear();
    run.command(Command::Retry { node: Some(run.key("m")) }).unwrap();
    run.tick(Input::Advance);
    assert_eq!(slice(&run, "m.slice[2]").in_flight(), ["m.do[0]"]);
    play(&mut run, &mut deeds);
    assert_eq!(output(&run).as_array().map(Vec::len), Some(20));
    assert!(deeds.done.values().all(|times| *times == 1), "{:?}", deeds.done);
    run.check_fold();
}

#[test]
fn a_slice_that_breaks_fails_the_map_as_it_has_failed() {
    let plan = map(10, ", max_parallel: 1", "");
    let mut run = begun(&plan);
    run.succeed("m.slice[0]");
    let child = run.child_of("m.slice[0]");
    run.child_ends(child, ChildEnd::Failed(StepError::new("limit.output", "too much")));
    let error = run.state.step(run.node("m")).error.clone().unwrap();
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("limit.output", "too much"));
    // Whatever it did is not known: its items are done again.
    run.command(Command::Retry { node: None }).unwrap();
    run.take();
    let mut deeds = Deeds::default();
    play(&mut run, &mut deeds);
    assert_eq!((output(&run).as_array().map(Vec::len), deeds.done.len()), (Some(10), 10));
}

#[test]
fn a_cancel_stops_the_slices_and_begins_no_other() {
    let plan = map(20, ", max_parallel: 2", "");
    let mut run = begun(&plan);
    run.succeed("m.slice[0]");
    run.succeed("m.slice[1]");
    run.command(Command::Cancel { reason: None }).unwrap();
    run.take();
    let is_recall = |body: &EventBody| matches!(body, EventBody::ChildCancelRequested(_));
    assert_eq!(run.log.iter().filter(|event| is_recall(&event.body)).count(), 2);
    for label in ["m.slice[0]", "m.slice[1]"] {
        run.child_ends(run.child_of(label), ChildEnd::Canceled);
    }
    assert_eq!(run.state.status(false), RunStatus::Canceled);
    assert!(!run.names().contains(&"step.started m.slice[2]".to_owned()));
    run.check_fold();
}

#[test]
fn an_engine_that_dies_while_it_gets_a_slice_ready_leaves_it_to_the_next() {
    let plan = map(8, "", "");
    let mut run = begun(&plan);
    run.succeed("m.slice[0]");
    run.take();
    assert_eq!(run.in_flight(), ["m.slice[1]"], "the one that has a run keeps it");
    let first = run.child_of("m.slice[0]");
    let mut deeds = Deeds::default();
    let mut child = slice(&run, "m.slice[0]");
    play(&mut child, &mut deeds);
    run.child_ends(first, end(&child));
    // What was taken in already is not taken in once more.
    run.child_ends(first, end(&child));
    play(&mut run, &mut deeds);
    assert_eq!(output(&run).as_array().map(Vec::len), Some(8));
    assert!(deeds.done.values().all(|times| *times == 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_comes_to_the_same_whether_it_is_dealt_out_or_not(
        count in 5_u32..40,
        parallel in 1_u32..20,
        tolerated in 0_u32..4,
        fail in prop::collection::btree_set(0_u32..40, 0..6),
        rule in prop::sample::select(vec!["", ", on_error: continue", ", on_error: skip", ", retry: {max_attempts: 2}"]),
    ) {
        let fail: BTreeSet<u32> = fail.into_iter().filter(|item| *item < count).collect();
        let more = format!(", max_parallel: {parallel}, tolerate: {{failed_count: {tolerated}}}");
        let dealt = map(count, &more, rule);
        let whole = map_in(40, count, &more, rule);
        prop_assert!(dealt.nodes[0].slices().is_some());
        let mut ends = Vec::new();
        for plan in [&dealt, &whole] {
            let mut deeds = Deeds { fail: fail.clone(), ..Deeds::default() };
            let mut run = begun(plan);
            play(&mut run, &mut deeds);
            let first = run.state.status(false);
            let within = (first == RunStatus::Completed).then(|| run.state.fans[&run.node("m")].failed.clone());
            deeds.fail.clear();
            if first == RunStatus::Paused {
                run.command(Command::Retry { node: None }).unwrap();
                run.take();
                play(&mut run, &mut deeds);
            }
            run.check_fold();
            prop_assert!(deeds.done.values().all(|times| *times == 1));
            ends.push((first, within, output(&run)));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}
