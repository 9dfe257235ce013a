//! Steps that call other workflows: what comes back, what goes down, and who ends when.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use scenarios::client::{id_of, is_terminal, step_of};
use scenarios::{Chance, House, Mode, Sink, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_step_calls_a_workflow_and_takes_its_output,
    a_child_is_pinned_to_the_version_that_is_named_or_the_latest,
    a_large_output_comes_back_and_can_be_read,
    a_failed_child_is_an_error_of_its_step,
    another_attempt_is_another_child,
    what_does_not_exist_or_does_not_fit_is_an_error_and_starts_nothing,
    a_cancel_goes_down_to_the_last_grandchild,
    a_timeout_and_a_skip_stop_the_child,
    runs_call_each_other_to_a_depth_and_no_deeper,
    circles_of_workflows_bodies_and_machines_end_at_the_depth,
    a_machine_calls_a_workflow_and_leaves_it,
    a_deadline_goes_down,
    kills_of_everything_lose_no_child_and_start_none_twice,
);

const GREET: &str = "{ version: 1, name: greet, type: steps, inputs: { type: object, required: [name], \
     properties: { name: { type: string }, mark: { type: string, default: '!' } }, additionalProperties: false }, \
     steps: [ { id: say, type: transform, output: { text: 'Hello, ${{ inputs.name }}${{ inputs.mark }}' } } ], \
     outputs: { text: '${{ nodes.say.output.text }}' } }";
const ASK: &str = "{ version: 1, name: ask, type: steps, steps: [ { id: ok, type: approval } ] }";

fn calls(workflow: &str, more: &str) -> String {
    format!(
        "{{ version: 1, name: caller, type: steps, steps: [ {{ id: call, type: workflow, workflow: {workflow}{more} }} ], \
         outputs: '${{{{ nodes.call.output }}}}' }}"
    )
}

/// Waits until a step has started a run, and returns that one's id.
async fn child_of(house: &House, run: &str, node: &str) -> String {
    let has_child = |run: &Value| step_of(run, node)["waiting_on"]["on"] == "child";
    let run = house.wait_until(run, &format!("a child of {node}"), has_child).await;
    step_of(&run, node)["child_run_id"].as_str().expect("its id").to_owned()
}

async fn a_step_calls_a_workflow_and_takes_its_output(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GREET).await;
    house.push(&calls("greet", ", with: { name: '${{ inputs.who }}' }")).await;
    let body = json!({"workflow": "caller", "inputs": {"who": "Ada"}, "labels": {"team": "docs"}, "priority": "high"});
    let parent = id_of(&house.as_user("rita", &[]).post("/v1/workflow-runs", &body).await.ok());

    let ended = house.wait_for(&parent, "completed").await;

    assert_eq!(ended["output"], json!({"text": "Hello, Ada!"}));
    assert_eq!(ended["parent"], Value::Null);
    let step = step_of(&ended, "call");
    let child = house.get_run(step["child_run_id"].as_str().unwrap()).await;
    assert_eq!(child["parent"], json!({"run_id": parent, "node": "call", "attempt": 1, "depth": 1}));
    assert_eq!(child["inputs"], json!({"name": "Ada", "mark": "!"}));
    assert_eq!((&child["labels"], &child["priority"]), (&json!({"team": "docs"}), &json!("high")));
    assert_eq!((&child["workflow"], &child["version"]), (&json!("greet"), &json!(1)));
    assert_eq!(child["created_by"]["id"], "rita");
    let listed = house.children(&parent).await;
    assert_eq!(
        (listed.len(), &listed[0]["id"], &listed[0]["parent_run_id"]),
        (1, &child["id"], &json!(parent))
    );
    let log = house.events(&parent).await;
    let started = log.step("child.started", "call");
    assert_eq!((&started.body["run_id"], &started.body["version"]), (&child["id"], &json!(1)));
    assert_eq!(log.step("child.finished", "call").body["status"], "completed");
    house.close().await;
}

async fn a_child_is_pinned_to_the_version_that_is_named_or_the_latest(mode: Mode) {
    let house = House::open(mode).await;
    let version = |n: u32| {
        format!(
            "{{ version: 1, name: which, type: steps, steps: [ {{ id: a, type: noop }} ], outputs: {n} }}"
        )
    };
    house.push(&version(1)).await;
    house.push(&version(2)).await;
    for (workflow, output) in [("which", 2), ("which@1", 1), ("which@2", 2)] {
        let run = house.run(&calls(workflow, ""), json!({})).await;
        assert_eq!(house.wait_for(&run, "completed").await["output"], output, "{workflow}");
    }
    house.close().await;
}

async fn a_large_output_comes_back_and_can_be_read(mode: Mode) {
    let house = House::open(mode).await;
    house
        .push(
            "{ version: 1, name: large, type: steps, steps: [ { id: a, type: transform, output: '${{ inputs.text }}' } ], \
             outputs: { text: '${{ nodes.a.output }}' } }",
        )
        .await;
    let parent = "{ version: 1, name: reads, type: steps, steps: [ \
         { id: call, type: workflow, workflow: large, with: { text: '${{ inputs.text }}' } }, \
         { id: count, type: transform, output: '${{ nodes.call.output.text | length }}' } ], \
         outputs: '${{ nodes.count.output }}' }";
    let run = house.run(parent, json!({"text": "x".repeat(100_000)})).await;
    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(ended["output"], 100_000);
    assert!(step_of(&ended, "call")["output"]["$blob"]["size_bytes"].as_u64().unwrap() > 100_000);
    house.close().await;
}

/// A workflow with one effect, which fails for good when the sink refuses it.
const ACT: &str = "{ version: 1, name: act, type: steps, on_error: fail, steps: [ \
     { id: act, type: http, with: { url: '${{ inputs.sink }}/act' } } ], outputs: '${{ nodes.act.output.body }}' }";

async fn a_failed_child_is_an_error_of_its_step(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/act", 2, 402);
    house.push(ACT).await;
    let with = ", with: { sink: '${{ inputs.sink }}' }, on_error: ";
    let continued =
        calls("act", &format!("{with}[{{ match: [child.failed], action: continue, output: none }}]"));

    let run = house.run(&continued, json!({"sink": sink.url()})).await;
    let ended = house.wait_for(&run, "completed").await;
    let step = step_of(&ended, "call");
    assert_eq!((&ended["outcome"], &ended["output"]), (&json!("partial_failure"), &json!("none")));
    assert_eq!(step["error"]["details"]["error"]["type"], "http.402");
    assert_eq!(step["error"]["details"]["run_id"], step["child_run_id"]);

    let run = house.run(&calls("act", &format!("{with}fail")), json!({"sink": sink.url()})).await;
    assert_eq!(house.wait_for(&run, "failed").await["error"]["type"], "child.failed");
    house.close_with(&[&sink]).await;
}

async fn another_attempt_is_another_child(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/act", 3, 500);
    house.push(ACT).await;
    let retried = ", with: { sink: '${{ inputs.sink }}' }, retry: { max_attempts: 2, backoff: { type: fixed, initial: 1s } }";
    let run = house.run(&calls("act", retried), json!({"sink": sink.url()})).await;
    house.wait_for_pause(&run, "step_failed").await;
    // A person asks for as many again.
    house.retry(&run, "call").await.ok();
    let ended = house.wait_for(&run, "completed").await;
    let step = step_of(&ended, "call");
    let ids: BTreeSet<_> =
        step["attempts"].as_array().unwrap().iter().map(|it| it["child_run_id"].to_string()).collect();
    assert_eq!((step["attempt"].as_u64(), ids.len()), (Some(4), 4), "{step:#}");
    let listed: BTreeSet<_> = house.children(&run).await.iter().map(|it| it["id"].to_string()).collect();
    assert_eq!(ids, listed);
    house.close_with(&[&sink]).await;
}

async fn what_does_not_exist_or_does_not_fit_is_an_error_and_starts_nothing(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GREET).await;
    for (workflow, more, error) in [
        ("nowhere", "", "workflow.unknown"),
        ("greet@7", "", "workflow.unknown"),
        ("greet", ", with: { name: 7, volume: 11 }", "schema.input"),
        ("greet", ", with: '${{ inputs.nothing }}'", "expression"),
    ] {
        let run = house.run(&calls(workflow, more), json!({})).await;
        let paused = house.wait_for_pause(&run, "step_failed").await;
        let found = step_of(&paused, "call")["error"].clone();
        assert_eq!(found["type"], error, "{found:#}");
        if error == "schema.input" {
            let pointers: Vec<_> =
                found["details"].as_array().unwrap().iter().map(|it| &it["pointer"]).collect();
            assert!(pointers.contains(&&json!("/name")), "{found:#}");
        }
        assert_eq!(house.children(&run).await, [json!(null); 0]);
    }
    house.close().await;
}

async fn a_cancel_goes_down_to_the_last_grandchild(mode: Mode) {
    let house = House::open(mode).await;
    house.push(ASK).await;
    house.push("{ version: 1, name: middle, type: steps, steps: [ { id: call, type: workflow, workflow: ask } ] }").await;
    let root = house.run(&calls("middle", ""), json!({})).await;
    let middle = child_of(&house, &root, "call").await;
    let leaf = child_of(&house, &middle, "call").await;
    house.wait_for_gate(&leaf, "ok").await;
    assert_eq!(house.get_run(&root).await["status"], "waiting");
    let explained = house.get(&format!("/v1/workflow-runs/{root}/explain")).await.ok();
    assert!(explained["steps"][0]["sentence"].as_str().unwrap().contains(&middle), "{explained}");

    house.cancel(&root).await.ok();

    let mut ends = Vec::new();
    for run in [&leaf, &middle, &root] {
        ends.push(house.wait_for(run, "canceled").await["ended_at"].as_str().unwrap().to_owned());
    }
    assert!(ends.is_sorted(), "a run ended before its child: {ends:?}");
    let asked = house.events(&leaf).await.first("run.cancel_requested").clone();
    assert_eq!(asked.body["reason"], "the parent run is being canceled");
    assert_eq!(
        house.events(&root).await.step("child.cancel_requested", "call").body["because"],
        "parent_canceled"
    );
    house.close().await;
}

async fn a_timeout_and_a_skip_stop_the_child(mode: Mode) {
    let house = House::open(mode).await;
    house.push(ASK).await;
    let run = house.run(&calls("ask", ", timeout: 1s, on_error: fail"), json!({})).await;
    let child = child_of(&house, &run, "call").await;
    assert_eq!(house.wait_for(&run, "failed").await["error"]["type"], "timeout");
    assert_eq!(house.get_run(&child).await["status"], "canceled");
    assert!(house.events(&run).await.has("step.timed_out", "call"));

    let run = house.run(&calls("ask", ""), json!({})).await;
    let child = child_of(&house, &run, "call").await;
    house.skip(&run, "call").await.ok();
    house.wait_for(&run, "completed").await;
    assert_eq!(house.get_run(&child).await["status"], "canceled");
    house.close().await;
}

async fn runs_call_each_other_to_a_depth_and_no_deeper(mode: Mode) {
    let house = House::open_with(mode, &[("WINDLASS_CHILD_DEPTH_MAX", "3")]).await;
    let deeper = "{ version: 1, name: deeper, type: steps, on_error: fail, steps: [ \
         { id: call, type: workflow, workflow: deeper, if: '${{ inputs.levels > 0 }}', with: { levels: '${{ inputs.levels - 1 }}' } } ] }";
    house.push(deeper).await;
    let run = house.start("deeper", json!({"levels": 3})).await;
    house.wait_for(&run, "completed").await;
    let run = house.start("deeper", json!({"levels": 1000})).await;
    let mut error = house.wait_for(&run, "failed").await["error"].clone();
    for _ in 0..3 {
        assert_eq!(error["type"], "child.failed");
        error = error["details"]["error"].clone();
    }
    assert_eq!(error["type"], "limit.depth", "{error:#}");
    house.close().await;
}

/// What no definition alone can show: by way of another workflow, of a body, and of a machine.
async fn circles_of_workflows_bodies_and_machines_end_at_the_depth(mode: Mode) {
    let house = House::open_with(mode, &[("WINDLASS_CHILD_DEPTH_MAX", "3")]).await;
    let calls = |name: &str, called: &str| {
        format!(
            "{{ version: 1, name: {name}, type: steps, on_error: fail, steps: [ {{ id: call, type: workflow, workflow: {called} }} ] }}"
        )
    };
    house.push(&calls("ping", "pong")).await;
    house.push(&calls("pong", "ping")).await;
    let body = "{ version: 1, name: mirror, type: steps, on_error: fail, steps: [ { id: each, type: map, each: [1], \
         do: [ { id: again, type: workflow, workflow: mirror } ] } ] }";
    house.push(body).await;
    let machine = "{ version: 1, name: wheel, type: machine, on_error: fail, initial: turning, states: { \
         turning: { invoke: { type: workflow, workflow: wheel, on_done: { target: still } } }, still: { type: final } } }";
    house.push(machine).await;

    for circle in ["ping", "mirror", "wheel"] {
        let run = house.start(circle, json!({})).await;
        let error = house.wait_for(&run, "failed").await["error"].to_string();
        assert!(error.contains("limit.depth"), "{circle}: {error}");
    }
    house.close().await;
}

async fn a_machine_calls_a_workflow_and_leaves_it(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GREET).await;
    house.push(ASK).await;
    let machine = "{ version: 1, name: porter, type: machine, events: { LEAVE: {} }, initial: greeting, states: { \
         greeting: { invoke: { type: workflow, workflow: greet, with: { name: Ada }, \
           on_done: { target: asking, actions: [ { assign: { said: '${{ output.text }}' } } ] } } }, \
         asking: { invoke: { id: asked, type: workflow, workflow: ask }, on: { LEAVE: gone } }, \
         gone: { type: final, output: '${{ context.said }}' } } }";
    let run = house.run(machine, json!({})).await;
    let child = child_of(&house, &run, "asked").await;
    house.signal(&run, "LEAVE", &json!({})).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], "Hello, Ada!");
    assert_eq!(house.get_run(&child).await["status"], "canceled");
    house.close().await;
}

async fn a_deadline_goes_down(mode: Mode) {
    let house = House::open(mode).await;
    house.push(ASK).await;
    house.push(&calls("ask", "")).await;
    let body = json!({"workflow": "caller", "inputs": {}, "deadline": "2s"});
    let run = id_of(&house.post("/v1/workflow-runs", &body).await.ok());
    let child = child_of(&house, &run, "call").await;
    let ended = house.wait_for(&run, "failed").await;
    assert_eq!(ended["error"]["type"], "timeout");
    let child = house.get_run(&child).await;
    assert_eq!(child["deadline_at"], ended["deadline_at"]);
    assert!(is_terminal(&child["status"]), "{child:#}");
    house.close().await;
}

// ---- kills -------------------------------------------------------------------------------------

const PARENTS: usize = 20;
const CHILDREN: usize = 3;
/// Each child acts so often, one time after the other.
const ACTS: usize = 3;
/// Everybody dies so often, while they are at it.
const KILLS: usize = 12;
const LIVES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(700));
const SESSION: &[(&str, &str)] = &[("WINDLASS_SESSION_TTL", "600ms"), ("WINDLASS_SESSION_RENEW", "150ms")];

async fn kills_of_everything_lose_no_child_and_start_none_twice(mode: Mode) {
    let mut house = House::open_with(mode, SESSION).await;
    let sink = Sink::open().await;
    let mut chance = Chance::from_environment();
    let act = |n| {
        format!(
            "{{ id: act{n}, type: http, retry_safe: true, with: {{ method: POST, url: '${{{{ inputs.sink }}}}/act{n}' }} }}"
        )
    };
    let acts: Vec<_> = (1..=ACTS).map(act).collect();
    for n in 1..=ACTS {
        sink.is_slow(&format!("/act{n}"), Duration::from_millis(50));
    }
    house.push(&format!("{{ version: 1, name: acts, type: steps, steps: [ {} ] }}", acts.join(", "))).await;
    let call = |n| {
        format!("call{n}: {{ type: workflow, workflow: acts, with: {{ sink: '${{{{ inputs.sink }}}}' }} }}")
    };
    let calls: Vec<_> = (1..=CHILDREN).map(call).collect();
    house
        .push(&format!("{{ version: 1, name: family, type: dag, nodes: {{ {} }} }}", calls.join(", ")))
        .await;
    let mut parents = Vec::new();
    for n in 0..PARENTS {
        let body = json!({"workflow": "family", "inputs": {"sink": sink.url()}});
        let answer = house.insist("/v1/workflow-runs", &format!("family-{n}"), &body).await;
        parents.push(id_of(&answer.ok()));
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
                drop(house.resume(run["id"].as_str().unwrap()).await);
            }
            open += usize::from(!is_terminal(&run["status"]));
        }
        (open == 0).then_some(())
    })
    .await;
    for parent in &parents {
        assert_eq!(house.get_run(parent).await["status"], "completed");
        let children = house.children(parent).await;
        assert_eq!(children.len(), CHILDREN, "{children:#?}");
        for child in children {
            assert_eq!((&child["status"], &child["workflow"]), (&json!("completed"), &json!("acts")));
        }
    }
    // What was repeated after a death was repeated under its key.
    let keys: BTreeSet<_> = sink.effects().into_iter().map(|effect| effect.key).collect();
    assert_eq!(keys.len(), PARENTS * CHILDREN * ACTS);
    house.close_with(&[&sink]).await;
}
