//! Graphs: branches side by side, joins, conditions, switches.

use std::fmt::Write as _;
use std::time::Duration;

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    branches_run_side_by_side_and_a_join_sees_them_all,
    a_skip_propagates_until_a_join_accepts_it,
    a_switch_takes_one_branch_and_skips_the_others,
    a_branch_goes_on_while_another_waits_at_a_gate,
    two_hundred_children_join,
    nodes_and_edges_may_be_written_as_lists,
);

async fn branches_run_side_by_side_and_a_join_sees_them_all(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    for (path, n) in [("/b", 1), ("/c", 2), ("/d", 3)] {
        sink.answers(path, json!(n)).is_slow(path, Duration::from_millis(400));
    }
    let yaml = r#"
        version: 1
        name: fan
        type: dag
        nodes:
          a: { type: transform, output: "${{ inputs.sink }}" }
          b: { type: http, needs: [a], with: { url: "${{ nodes.a.output }}/b" } }
          c: { type: http, needs: [a], with: { url: "${{ nodes.a.output }}/c" } }
          d: { type: http, needs: [a], with: { url: "${{ nodes.a.output }}/d" } }
          sum:
            type: transform
            needs: [b, c, d]
            output: "${{ nodes.b.output.body + nodes.c.output.body + nodes.d.output.body }}"
        outputs: "${{ nodes.sum.output }}"
    "#;

    let id = house.run(yaml, json!({"sink": sink.url()})).await;

    assert_eq!(house.wait_for(&id, "completed").await["output"], 6);
    let log = house.events(&id).await;
    let last_start = ["b", "c", "d"].map(|node| log.step("step.started", node).seq).into_iter().max();
    let first_end = ["b", "c", "d"].map(|node| log.step("step.succeeded", node).seq).into_iter().min();
    assert!(last_start < first_end, "the branches did not run side by side:\n{log}");
    house.close_with(&[&sink]).await;
}

async fn a_skip_propagates_until_a_join_accepts_it(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: skips
        type: dag
        nodes:
          a: { type: noop }
          b: { type: noop, needs: [a], if: "${{ false }}" }
          c: { type: noop, needs: [b] }
          d: { type: noop, needs: [c, a] }
          join:
            type: transform
            needs: [a, { node: d, accept: [succeeded, skipped] }]
            output: { b: "${{ nodes.b.status }}", d: "${{ nodes.d.status }}" }
        outputs: "${{ nodes.join.output }}"
    "#;

    let id = house.run(yaml, json!({})).await;

    assert_eq!(house.wait_for(&id, "completed").await["output"], json!({"b": "skipped", "d": "skipped"}));
    let log = house.events(&id).await;
    assert_eq!(log.step("step.skipped", "b").body["reason"], "condition");
    assert_eq!(log.step("step.skipped", "c").body["reason"], "need");
    assert_eq!(log.step("step.skipped", "d").body["reason"], "need");
    assert_eq!(log.count("step.started"), 2);
    house.close().await;
}

async fn a_switch_takes_one_branch_and_skips_the_others(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: route
        type: dag
        nodes:
          size:
            type: switch
            cases:
              - { when: "${{ inputs.n > 100 }}", then: [large] }
              - { when: "${{ inputs.n > 10 }}", then: [medium, also_medium] }
            default: [small]
          large: { type: noop, needs: [size] }
          medium: { type: noop, needs: [size] }
          also_medium: { type: noop, needs: [size] }
          small: { type: noop, needs: [size] }
          always: { type: noop, needs: [size] }
    "#;
    house.push(yaml).await;
    for (n, taken) in [(500, vec!["large"]), (50, vec!["medium", "also_medium"]), (5, vec!["small"])] {
        let id = house.start("route", json!({"n": n})).await;
        house.wait_for(&id, "completed").await;
        let log = house.events(&id).await;
        for node in ["large", "medium", "also_medium", "small"] {
            assert_eq!(log.has("step.started", node), taken.contains(&node), "n = {n}, {node}:\n{log}");
            if !taken.contains(&node) {
                assert_eq!(log.step("step.skipped", node).body["reason"], "branch");
            }
        }
        assert!(log.has("step.succeeded", "always"));
    }
    house.close().await;
}

async fn a_branch_goes_on_while_another_waits_at_a_gate(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: beside
        type: dag
        nodes:
          ask: { type: approval }
          work: { type: noop }
          more: { type: noop, needs: [work] }
          join: { type: noop, needs: [ask, more] }
    "#;

    let id = house.run(yaml, json!({})).await;

    house.wait_for_step(&id, "more", "succeeded").await;
    house.wait_for(&id, "waiting").await;
    assert_eq!(house.get_step(&id, "join").await["status"], "pending");
    house.approve(&id, "ask").await.ok();
    house.wait_for(&id, "completed").await;
    house.close().await;
}

async fn two_hundred_children_join(mode: Mode) {
    let house = House::open(mode).await;
    let mut yaml = "version: 1\nname: wide\ntype: dag\nnodes:\n  root: { type: noop }\n".to_owned();
    for n in 0..200 {
        writeln!(yaml, "  c{n}: {{ type: transform, needs: [root], output: {n} }}").expect("text fits");
    }
    let all: Vec<String> = (0..200).map(|n| format!("c{n}")).collect();
    let sum: Vec<String> = all.iter().map(|id| format!("nodes.{id}.output")).collect();
    writeln!(yaml, "  join:\n    type: transform\n    needs: [{}]", all.join(", ")).expect("text fits");
    writeln!(yaml, "    output: '${{{{ [{}] | sum }}}}'", sum.join(", ")).expect("text fits");
    yaml.push_str("outputs: '${{ nodes.join.output }}'\n");

    let id = house.run(&yaml, json!({})).await;

    assert_eq!(house.wait_for(&id, "completed").await["output"], 199 * 200 / 2);
    house.close().await;
}

async fn nodes_and_edges_may_be_written_as_lists(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: edges
        type: dag
        nodes:
          - { id: c, type: noop }
          - { id: b, type: noop }
          - { id: a, type: noop }
        edges:
          - { from: a, to: b }
          - { from: b, to: c }
    "#;

    let id = house.run(yaml, json!({})).await;

    house.wait_for(&id, "completed").await;
    let log = house.events(&id).await;
    let order = ["a", "b", "c"].map(|node| log.step("step.started", node).seq);
    assert!(order.is_sorted(), "{log}");
    house.close().await;
}
