//! What a good definition compiles to.

use std::time::Duration;

use serde_json::json;
use windlass_model::plan::{Accept, ErrorAction, Part, Role, WorkflowKind};
use windlass_model::retry::{Growth, Jitter};
use windlass_model::workflow::{Document, Format, compile};

use crate::support::{catalog, good, plan_of};

#[test]
fn steps_become_a_chain_that_skips_and_continued_failures_do_not_break() {
    let plan = good(
        "version: 1\nname: a\ntype: steps\nsteps:\n  - {id: one, type: noop}\n  - {id: two, type: noop}\n",
    );
    assert_eq!(plan.kind, WorkflowKind::Steps);
    assert!(plan.nodes[0].needs.is_empty());
    assert_eq!(
        plan.nodes[1].needs[0].accept,
        Accept::Listed { succeeded: true, skipped: true, failed: true }
    );
    assert_eq!(plan.nodes[0].dependents, [plan.nodes[1].index]);
    assert_eq!(plan.groups.len(), 2);
}

#[test]
fn a_definition_with_everything_compiles() {
    let plan = good(include_str!("good/large.yaml"));
    let approve = plan.find("approve").unwrap();
    let Role::Approval(gate) = &approve.role else { panic!("{approve:?}") };
    assert_eq!(gate.timeout, Some(Duration::from_secs(48 * 3600)));
    assert_eq!(gate.any_of, ["role:finance-lead", "user:ada"]);
    assert!(gate.exclude_requester && gate.form.is_some() && gate.auto_approve_if.is_some());
    assert_eq!(approve.timeout, None, "a gate's time is not that of an attempt");

    let load = plan.find("load").unwrap();
    assert_eq!((load.retry.max_attempts, load.timeout), (5, Some(Duration::from_secs(300))));
    assert_eq!(load.retry.backoff.growth, Growth::Exponential { factor: 2.0 });
    assert_eq!((load.retry.backoff.max, load.retry.backoff.jitter), (Duration::from_secs(30), Jitter::Full));
    assert!(load.retry_safe, "a GET");

    let pay = plan.find("pay").unwrap();
    assert!(pay.retry_safe, "because the definition says so");
    assert_eq!(pay.retry.max_attempts, 2, "by default");
    assert_eq!(pay.gate.as_ref().unwrap().timeout, Some(Duration::from_secs(3600)));
    assert_eq!(pay.needs[1].accept, Accept::Listed { succeeded: true, skipped: true, failed: false });

    let tell = plan.find("tell").unwrap();
    assert!(matches!(tell.on_error[0].action, ErrorAction::Continue(Some(_))));
    assert!(matches!(tell.on_error[1].action, ErrorAction::Escalate(_)), "handlers of many come after");
    assert!(matches!(tell.on_error[2].action, ErrorAction::Pause), "and the definition's word last");
    let rules: Vec<&str> = pay.on_error.iter().map(|rule| rule.pointer.as_str()).collect();
    assert_eq!(
        rules,
        [
            "/nodes/pay/on_error/0",
            "/nodes/pay/on_error/1",
            "/error_handlers/0",
            "/error_handlers/1",
            "/on_error"
        ]
    );
    let (spare, undo) = (plan.find("pay.fallback").unwrap(), plan.find("pay.compensate").unwrap());
    assert_eq!(spare.part, Part::Fallback { of: pay.index });
    assert_eq!(undo.part, Part::Compensation { of: pay.index });
    assert_eq!((undo.retry.max_attempts, undo.on_error.len()), (10, 0));
    assert_eq!(plan.main_count() + 2, plan.nodes.len(), "what stands inside comes last");
    assert_eq!(plan.groups.iter().map(Vec::len).sum::<usize>(), plan.main_count());
    assert_eq!(plan.timeout, Some(Duration::from_secs(7 * 24 * 3600)));

    let read: Vec<&str> =
        plan.nodes.iter().filter(|node| node.output_is_read).map(|node| node.id.as_str()).collect();
    assert_eq!(read, ["load", "grade", "choose", "pay", "paid"]);
}

#[test]
fn defaults_are_about_work_and_not_about_waiting() {
    let plan = good(
        "version: 1\nname: a\ntype: dag\ndefaults: {timeout: 5m, retry: {max_attempts: 3}}\nnodes:\n  \
         w: {type: wait, for: 1h}\n  s: {type: signal, name: x}\n  a: {type: approval}\n  n: {type: noop}\n",
    );
    for id in ["w", "s", "a"] {
        let node = plan.find(id).unwrap();
        assert_eq!((node.timeout, node.retry.max_attempts), (None, 1), "{id}");
    }
    let work = plan.find("n").unwrap();
    assert_eq!((work.timeout, work.retry.max_attempts), (Some(Duration::from_secs(300)), 3));
}

#[test]
fn a_nodes_retry_changes_only_what_it_says() {
    let plan = good(
        "version: 1\nname: a\ntype: dag\ndefaults: {retry: {max_attempts: 3, errors: [timeout], backoff: {type: fixed, initial: 5s}}}\n\
         nodes:\n  a: {type: noop, retry: {max_attempts: 7}}\n  b: {type: noop, retry: {backoff: {initial: 5m}}}\n",
    );
    let a = &plan.find("a").unwrap().retry;
    assert_eq!((a.max_attempts, a.errors.as_slice()), (7, ["timeout".to_owned()].as_slice()));
    assert_eq!((a.backoff.growth, a.backoff.initial), (Growth::Fixed, Duration::from_secs(5)));
    let b = &plan.find("b").unwrap().retry;
    assert_eq!(b.backoff.max, Duration::from_secs(300), "the bound follows a longer start");
}

#[test]
fn the_list_form_with_edges_is_the_map_form_with_needs() {
    let list = good(
        "version: 1\nname: a\ntype: dag\nnodes: [{id: a, type: noop}, {id: b, type: noop}, {id: c, type: noop, if: 'true'}]\n\
         edges: [{from: a, to: b}, {from: a, to: c, when: nodes.a.status == 'succeeded'}, {from: b, to: c}]\n",
    );
    let shape: Vec<(&str, Vec<u16>)> = list
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node.needs.iter().map(|need| need.node.0).collect()))
        .collect();
    assert_eq!(shape, [("a", vec![]), ("b", vec![0]), ("c", vec![0, 1])]);
    let condition = list.find("c").unwrap().condition.as_ref().unwrap();
    assert_eq!(condition.text(), "(true) and (nodes.a.status == 'succeeded')");
    let groups: Vec<Vec<u16>> =
        list.groups.iter().map(|group| group.iter().map(|index| index.0).collect()).collect();
    assert_eq!(groups, [vec![0], vec![1], vec![2]]);
}

#[test]
fn an_anchor_is_as_good_as_its_text_written_out() {
    let short = good(
        "version: 1\nname: a\ntype: dag\nnodes:\n  a: &work {type: transform, output: [1, 2]}\n  b: *work\n",
    );
    let long = good(
        "version: 1\nname: a\ntype: dag\nnodes:\n  a: {type: transform, output: [1, 2]}\n  b: {type: transform, output: [1, 2]}\n",
    );
    assert_eq!(short.hash, long.hash);
}

#[test]
fn the_hash_is_that_of_the_definition_and_not_of_its_text() {
    let yaml = "# comment\nversion: 1\nname: a\ntype: steps\nsteps:\n- id: one\n  type: noop\n";
    let json = r#"{"version":1,"name":"a","type":"steps","steps":[{"id":"one","type":"noop"}]}"#;
    let of = |text: &str, format| compile(&Document::parse(text, format).unwrap(), &catalog()).unwrap().hash;
    assert_eq!(of(yaml, Format::Yaml), of(json, Format::Json));
    assert_eq!(of(json, Format::Json), of(json, Format::Yaml));
    let other = plan_of(json!({
        "version": 1, "name": "a", "type": "steps", "steps": [{ "id": "two", "type": "noop" }]
    }));
    assert_ne!(of(yaml, Format::Yaml), other.unwrap().hash);
}

#[test]
fn a_switch_is_read_by_the_nodes_it_decides_about() {
    let plan = good(
        "version: 1\nname: a\ntype: dag\nnodes:\n  s: {type: switch, cases: [{when: true, then: [x]}]}\n  x: {type: noop, needs: [s]}\n",
    );
    assert!(plan.find("s").unwrap().output_is_read);
}

#[test]
fn what_a_failed_step_leaves_behind_may_name_its_own_error() {
    let plan = good(
        "version: 1\nname: a\ntype: steps\nsteps:\n- {id: one, type: noop, on_error: [{match: ['*'], action: continue, output: '${{ nodes.one.error.type }}'}]}\n",
    );
    assert!(!plan.find("one").unwrap().output_is_read);
}
