//! Nodes in nodes: a body is a run of its own, and its parent cannot tell it from one step.

use std::time::Duration;

use futures::future::join_all;
use scenarios::client::{is_terminal, step_of};
use scenarios::{Chance, House, Mode, Sink, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    each_item_has_a_body_with_an_approval_and_a_map_inside,
    branches_run_side_by_side_and_one_that_fails_stops_the_others,
    a_failure_inside_a_body_is_routed_by_the_node_that_has_it,
    a_cancel_goes_down_into_branches,
    a_graph_in_a_state_is_left_with_the_state,
    a_machine_in_a_graph_is_told_things_by_its_own_run,
    an_item_may_call_a_workflow,
    a_body_with_a_tool_runs_on_what_the_version_brought_along,
    kills_of_everything_lose_no_body_and_start_none_twice,
);

/// The runs that a run has started, once there are so many.
async fn children(house: &House, run: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} children of {run}"), || async {
        let mut children = house.children(run).await;
        children.sort_by_key(|child| child["workflow"].to_string() + &child["created_at"].to_string());
        (children.len() == count).then_some(children)
    })
    .await
}

fn id(run: &Value) -> &str {
    run["id"].as_str().expect("a run has an id")
}

async fn each_item_has_a_body_with_an_approval_and_a_map_inside(mode: Mode) {
    let house = House::open(mode).await;
    let orders = "{ version: 1, name: orders, type: dag, inputs: { type: object }, nodes: { \
         rate: { type: transform, output: { by: 2 } }, \
         each: { type: map, needs: [rate], each: '${{ inputs.orders }}', as: order, do: { nodes: { \
           lines: { type: map, each: '${{ order.lines }}', as: line, \
             do: { steps: [ { id: times, type: transform, output: '${{ line * nodes.rate.output.by + order.plus }}' } ] } }, \
           sum: { type: transform, needs: [lines], output: '${{ nodes.lines.output | sum }}' }, \
           ask: { type: approval, needs: [sum], show: '${{ nodes.sum.output }}', if: '${{ nodes.sum.output > 10 }}' } }, \
           outputs: '${{ nodes.sum.output }}' } } }, outputs: '${{ nodes.each.output }}' }";
    let inputs = json!({"orders": [{"lines": [1, 2], "plus": 1}, {"lines": [10], "plus": 0}]});
    let run = house.run(orders, inputs).await;

    let asking = eventually("a body that asks", || async {
        let children = house.children(&run).await;
        for child in children.iter().filter(|child| child["status"] == "waiting") {
            let run = house.get_run(id(child)).await;
            if step_of(&run, "ask")["status"] == "waiting" {
                return Some(run);
            }
        }
        None
    })
    .await;
    let gate = house.wait_for_gate(id(&asking), "ask").await;
    assert_eq!(gate["show"], 20);
    assert_eq!((&asking["workflow"], &asking["version"]), (&json!("orders.each"), &Value::Null));
    // What the body reads outside is what it was given.
    assert_eq!(
        asking["inputs"],
        json!({"nodes": {"rate": {"output": {"by": 2}}}, "order": {"lines": [10], "plus": 0}})
    );
    house.approve(id(&asking), "ask").await.ok();

    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(ended["output"], json!([8, 20]));
    house.close().await;
}

async fn branches_run_side_by_side_and_one_that_fails_stops_the_others(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let checks = |fails: &str, more: &str| {
        format!(
            "{{ version: 1, name: checks, type: steps, on_error: fail, steps: [ {{ id: checks, type: parallel{more}, branches: {{ \
             legal: [ {{ id: ask, type: approval }}, {{ id: say, type: transform, output: fine }} ], \
             stock: {{ nodes: {{ count: {{ type: http, with: {{ url: '${{{{ inputs.sink }}}}/{fails}' }} }} }}, \
             outputs: '${{{{ nodes.count.output.status }}}}' }} }} }} ], outputs: '${{{{ nodes.checks.output }}}}' }}"
        )
    };
    sink.fails("/bad", 9, 404);
    let inputs = json!({"sink": sink.url()});

    let run = house.run(&checks("good", ""), inputs.clone()).await;
    let legal = children(&house, &run, 2).await.remove(0);
    assert_eq!(legal["workflow"], "checks.checks.legal");
    house.wait_for_gate(id(&legal), "ask").await;
    house.approve(id(&legal), "ask").await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!({"legal": "fine", "stock": 200}));
    let steps = house.get_run(&run).await["steps"].as_array().cloned().unwrap_or_default();
    let branches: Vec<_> = steps.iter().filter_map(|step| step["branch"].as_str()).collect();
    assert_eq!(branches, ["legal", "stock"]);

    let run = house.run(&checks("bad", ""), inputs.clone()).await;
    let ended = house.wait_for(&run, "failed").await;
    assert_eq!(ended["error"]["type"], "http.404");
    let legal = children(&house, &run, 2).await.remove(0);
    assert_eq!(legal["status"], "canceled");
    let asked = house.events(id(&legal)).await.first("run.cancel_requested").clone();
    assert_eq!(asked.body["reason"], "another branch has failed");

    let run = house.run(&checks("bad", ", fail_fast: false"), inputs).await;
    let legal = children(&house, &run, 2).await.remove(0);
    house.wait_for_gate(id(&legal), "ask").await;
    house.approve(id(&legal), "ask").await.ok();
    assert_eq!(house.wait_for(&run, "failed").await["error"]["type"], "http.404");
    assert_eq!(house.get_run(id(&legal)).await["status"], "completed");
    house.close_with(&[&sink]).await;
}

async fn a_failure_inside_a_body_is_routed_by_the_node_that_has_it(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/b", 1, 404);
    let each = "{ version: 1, name: each, type: steps, steps: [ { id: each, type: map, each: [a, b, c], as: it, \
         do: { steps: [ { id: get, type: http, with: { url: '${{ inputs.sink }}/${{ it }}' } }, \
         { id: say, type: transform, output: '${{ it }}' } ] } } ], outputs: '${{ nodes.each.output }}' }";
    let run = house.run(each, json!({"sink": sink.url()})).await;
    let paused = house.wait_for_pause(&run, "step_failed").await;
    let failed = &step_of(&paused, "each")["items"]["failed_items"];
    assert_eq!((&failed[0]["index"], &failed[0]["error"]["type"]), (&json!(1), &json!("http.404")));
    house.retry(&run, "each").await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!(["a", "b", "c"]));
    assert_eq!((sink.at("/a").len(), sink.at("/b").len()), (1, 2));
    house.close_with(&[&sink]).await;
}

async fn a_cancel_goes_down_into_branches(mode: Mode) {
    let house = House::open(mode).await;
    let run = house
        .run(
            "{ version: 1, name: deep, type: steps, steps: [ { id: outer, type: parallel, branches: { \
             a: [ { id: inner, type: parallel, branches: { b: [ { id: ask, type: approval } ] } } ], \
             c: [ { id: nap, type: wait, for: 1h } ] } } ] }",
            json!({}),
        )
        .await;
    let outer = children(&house, &run, 2).await;
    let inner = children(&house, id(&outer[0]), 1).await;
    house.wait_for_gate(id(&inner[0]), "ask").await;
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    for child in outer.iter().chain(&inner) {
        assert_eq!(house.get_run(id(child)).await["status"], "canceled");
    }
    house.close().await;
}

async fn a_graph_in_a_state_is_left_with_the_state(mode: Mode) {
    let house = House::open(mode).await;
    let order = "{ version: 1, name: order, type: hybrid, context: { n: 4 }, events: { LEAVE: {} }, initial: counting, states: { \
         counting: { dag: { nodes: { twice: { type: transform, output: '${{ context.n * 2 }}' }, \
             more: { type: transform, needs: [twice], output: '${{ nodes.twice.output + context.n }}' } }, \
             outputs: '${{ nodes.more.output }}' }, \
           on_done: { target: failing, actions: { assign: { n: '${{ output }}' } } } }, \
         failing: { dag: [ { id: bad, type: transform, output: '${{ 1 / (context.n - 12) }}' } ], \
           on_error: { match: [expression], target: asking } }, \
         asking: { dag: { steps: [ { id: ask, type: approval } ] }, on: { LEAVE: gone } }, \
         gone: { type: final, output: '${{ context.n }}' } } }";
    let run = house.run(order, json!({})).await;
    let asking = eventually("the graph that asks", || async {
        house.children(&run).await.into_iter().find(|child| child["workflow"] == "order.asking")
    })
    .await;
    house.wait_for_gate(id(&asking), "ask").await;
    house.signal(&run, "LEAVE", &json!({})).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], 12);
    assert_eq!(house.get_run(id(&asking)).await["status"], "canceled");
    house.close().await;
}

async fn a_machine_in_a_graph_is_told_things_by_its_own_run(mode: Mode) {
    let house = House::open(mode).await;
    let talk = "{ version: 1, name: talk, type: dag, nodes: { \
         first: { type: transform, output: 5 }, \
         talk: { type: machine, needs: [first], context: { least: '${{ nodes.first.output }}' }, events: { SAY: { type: object } }, \
           initial: open, states: { open: { on: { SAY: { guard: '${{ event.n > context.least }}', target: closed, \
           actions: { assign: { said: '${{ event.n }}' } } } } }, closed: { type: final, output: '${{ context.said }}' } } }, \
         after: { type: transform, needs: [talk], output: '${{ nodes.talk.output + 1 }}' } }, outputs: '${{ nodes.after.output }}' }";
    let run = house.run(talk, json!({})).await;
    let machine = children(&house, &run, 1).await.remove(0);
    house.wait_for(id(&machine), "waiting").await;
    let step = house.get_step(&run, "talk").await;
    assert_eq!((&step["kind"], &step["child_run_id"]), (&json!("machine"), &machine["id"]));
    house.signal(id(&machine), "SAY", &json!({"n": 3})).await.ok();
    house.signal(id(&machine), "SAY", &json!({"n": 7})).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], 8);
    house.close().await;
}

async fn an_item_may_call_a_workflow(mode: Mode) {
    let house = House::open(mode).await;
    house
        .push(
            "{ version: 1, name: half, type: steps, inputs: { type: object, required: [n] }, on_error: fail, \
             steps: [ { id: a, type: transform, output: '${{ 10 / inputs.n }}' } ], outputs: '${{ nodes.a.output }}' }",
        )
        .await;
    let each = "{ version: 1, name: halves, type: steps, steps: [ { id: each, type: map, each: [1, 0, 5], as: n, \
         tolerate: { failed_count: 1 }, do: { type: workflow, workflow: half, with: { n: '${{ n }}' } } } ], \
         outputs: '${{ nodes.each.output }}' }";
    let run = house.run(each, json!({})).await;
    let ended = house.wait_for(&run, "completed").await;
    assert_eq!((&ended["output"], &ended["outcome"]), (&json!([10.0, null, 2.0]), &json!("partial_failure")));
    let failed = &step_of(&ended, "each")["items"]["failed_items"][0];
    assert_eq!((&failed["index"], &failed["error"]["type"]), (&json!(1), &json!("child.failed")));
    assert_eq!(children(&house, &run, 3).await.len(), 3);
    house.close().await;
}

async fn a_body_with_a_tool_runs_on_what_the_version_brought_along(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let tools = "{ version: 1, name: tools, type: steps, \
         tools: { stock.count: { do: { type: http, with: { url: '${{ parameters.sink }}/${{ parameters.id }}' } } } }, \
         steps: [ { id: each, type: map, each: [x, y], as: it, do: [ \
           { id: count, type: tool, tool: stock.count, with: { id: '${{ it }}', sink: '${{ inputs.sink }}' } }, \
           { id: said, type: transform, output: '${{ it }}' } ] } ], outputs: '${{ nodes.each.output }}' }";
    let run = house.run(tools, json!({"sink": sink.url()})).await;
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!(["x", "y"]));
    assert_eq!((sink.at("/x").len(), sink.at("/y").len()), (1, 1));
    house.close_with(&[&sink]).await;
}

// ---- kills -------------------------------------------------------------------------------------

const RUNS: usize = 8;
const ITEMS: usize = 3;
/// Everybody dies so often, while they are at it.
const KILLS: usize = 8;
const LIVES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(700));
const SESSION: &[(&str, &str)] = &[("WINDLASS_SESSION_TTL", "600ms"), ("WINDLASS_SESSION_RENEW", "150ms")];

async fn kills_of_everything_lose_no_body_and_start_none_twice(mode: Mode) {
    let mut house = House::open_with(mode, SESSION).await;
    let sink = Sink::open().await;
    let mut chance = Chance::from_environment();
    let act = |name: &str| {
        format!(
            "{{ id: {name}, type: http, retry_safe: true, with: {{ method: POST, url: '${{{{ inputs.sink }}}}/{name}' }} }}"
        )
    };
    for path in ["/a", "/b", "/c"] {
        sink.is_slow(path, Duration::from_millis(50));
    }
    let acts = format!(
        "{{ version: 1, name: acts, type: steps, steps: [ {{ id: each, type: map, each: [1, 2, 3], \
         do: [ {}, {{ id: sides, type: parallel, branches: {{ x: [ {} ], y: [ {} ] }} }} ] }} ] }}",
        act("a"),
        act("b"),
        act("c")
    );
    house.push(&acts).await;
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let body = json!({"workflow": "acts", "inputs": {"sink": sink.url()}});
        let answer = house.insist("/v1/workflow-runs", &format!("acts-{n}"), &body).await;
        runs.push(id(&answer.ok()).to_owned());
    }

    for _ in 0..KILLS {
        tokio::time::sleep(chance.between(LIVES.0, LIVES.1)).await;
        let all = house.processes().to_vec();
        join_all(all.iter().map(scenarios::Process::kill)).await;
        house.rise().await;
    }

    eventually("every run to end", || async {
        let mut open = 0;
        for run in house.all_runs().await {
            let run = house.get_run(&run).await;
            // Three deaths in a row set a run aside: an operator has it go on.
            if run["status"] == "paused" {
                drop(house.resume(id(&run)).await);
            }
            open += usize::from(!is_terminal(&run["status"]));
        }
        (open == 0).then_some(())
    })
    .await;
    for run in &runs {
        assert_eq!(house.get_run(run).await["status"], "completed");
        let bodies = house.children(run).await;
        assert_eq!(bodies.len(), ITEMS, "{bodies:#?}");
        for body in bodies {
            assert_eq!((&body["status"], house.children(id(&body)).await.len()), (&json!("completed"), 2));
        }
    }
    // What was repeated after a death was repeated under its key.
    let keys: std::collections::BTreeSet<_> = sink.effects().into_iter().map(|effect| effect.key).collect();
    assert_eq!(keys.len(), RUNS * ITEMS * 3);
    house.close_with(&[&sink]).await;
}
