//! Something is done for each item of a list.

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    each_item_is_done_once_and_the_outputs_come_in_order,
    failures_within_the_tolerance_are_listed_and_the_run_is_a_partial_failure,
    a_retry_repeats_the_failed_items_and_no_others,
    a_kill_in_the_middle_repeats_only_what_was_in_flight,
    a_kill_leaves_items_that_are_not_safe_to_a_person,
    a_cancel_undoes_the_items_that_took_effect,
);

/// A map over four parcels; `more` stands beside its `do`, `inside` in it.
fn parcels(method: &str, more: &str, inside: &str) -> String {
    format!(
        "{{ version: 1, name: parcels, type: steps, inputs: {{ type: object }}, \
         outputs: '${{{{ nodes.send.output }}}}', steps: [ \
         {{ id: send, type: map, each: [a, b, c, d], as: parcel, max_parallel: 2{more}, do: {{ type: http, \
         with: {{ method: {method}, url: '${{{{ inputs.sink }}}}/${{{{ parcel }}}}', json: {{ at: '${{{{ item.index }}}}' }} }}{inside} }} }} ] }}"
    )
}

fn paths(sink: &Sink) -> Vec<String> {
    let mut paths: Vec<String> = sink.effects().into_iter().map(|effect| effect.path).collect();
    paths.sort();
    paths
}

/// What the sink said to each item.
fn statuses(run: &Value) -> Vec<Value> {
    run["output"].as_array().into_iter().flatten().map(|answer| answer["status"].clone()).collect()
}

/// The step of one item, as the run shows it.
async fn item(house: &House, run: &str, node: &str, index: u64) -> Value {
    let steps = house.get_run(run).await["steps"].as_array().cloned().unwrap_or_default();
    let found = steps.into_iter().find(|step| step["node"] == node && step["item"] == index);
    found.unwrap_or_else(|| panic!("no item {index} of {node}"))
}

async fn each_item_is_done_once_and_the_outputs_come_in_order(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = house.run(&parcels("POST", "", ""), json!({"sink": sink.url()})).await;

    let ended = house.wait_for(&run, "completed").await;

    assert_eq!(statuses(&ended), [200, 200, 200, 200]);
    assert_eq!(ended["outcome"], "succeeded");
    assert_eq!(paths(&sink), ["/a", "/b", "/c", "/d"]);
    let third = sink.at("/c");
    assert_eq!(
        (&third[0].body["at"], third[0].key.as_str()),
        (&json!(2), format!("{run}/send.do[2]/1").as_str())
    );
    let send = house.get_step(&run, "send").await;
    assert_eq!(
        send["items"],
        json!({"count": 4, "open": 0, "failed": 0, "failed_items": [], "outcome": "succeeded"})
    );
    let shown = item(&house, &run, "send.do", 3).await;
    assert_eq!((&shown["status"], &shown["kind"]), (&json!("succeeded"), &json!("http")));
    let whole = house.get(&format!("/v1/workflow-runs/{run}/steps/send.do/output?item=3")).await.ok();
    let beyond = house.get(&format!("/v1/workflow-runs/{run}/steps/send.do/output?item=1000000")).await;
    assert_eq!(beyond.status, 404, "{beyond}");
    assert_eq!(whole["status"], 200);
    house.close_with(&[&sink]).await;
}

async fn failures_within_the_tolerance_are_listed_and_the_run_is_a_partial_failure(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/b", 1, 404);
    let yaml = parcels("PUT", ", tolerate: { failed_percent: 25 }", "");
    let run = house.run(&yaml, json!({"sink": sink.url()})).await;

    let ended = house.wait_for(&run, "completed").await;

    assert_eq!(statuses(&ended), [json!(200), Value::Null, json!(200), json!(200)]);
    assert_eq!(ended["outcome"], "partial_failure");
    let items = house.get_step(&run, "send").await["items"].clone();
    assert_eq!((&items["outcome"], &items["failed"]), (&json!("partial_failure"), &json!(1)));
    assert_eq!(items["failed_items"][0]["index"], 1);
    assert_eq!(items["failed_items"][0]["error"]["type"], "http.404");
    house.close_with(&[&sink]).await;
}

async fn a_retry_repeats_the_failed_items_and_no_others(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/c", 1, 500);
    let run = house.run(&parcels("POST", "", ""), json!({"sink": sink.url()})).await;
    house.wait_for_pause(&run, "step_failed").await;
    let error = house.get_step(&run, "send").await["error"].clone();
    assert_eq!((&error["type"], &error["details"]["failed"]), (&json!("map.items_failed"), &json!(1)));

    house.post(&format!("/v1/workflow-runs/{run}/retry"), &json!({"node": "send"})).await.ok();

    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(statuses(&ended), [200, 200, 200, 200]);
    assert_eq!(ended["outcome"], "succeeded");
    assert_eq!(paths(&sink), ["/a", "/b", "/c", "/c", "/d"]);
    house.close_with(&[&sink]).await;
}

/// A house that was killed while two of four items hung, and is up again.
async fn killed_in_the_middle(mode: Mode, sink: &Sink, method: &str) -> (House, String) {
    let mut house = House::open(mode).await;
    sink.hangs("/b").hangs("/c");
    let run = house.run(&parcels(method, "", ""), json!({"sink": sink.url()})).await;
    sink.wait_for("/b", 1).await;
    sink.wait_for("/c", 1).await;
    house.kill().await;
    sink.heals("/b").heals("/c");
    house.rise().await;
    (house, run)
}

async fn a_kill_in_the_middle_repeats_only_what_was_in_flight(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = killed_in_the_middle(mode, &sink, "PUT").await;

    house.wait_for(&run, "completed").await;

    assert_eq!(paths(&sink), ["/a", "/b", "/b", "/c", "/c", "/d"]);
    for path in ["/b", "/c"] {
        let effects = sink.at(path);
        assert_eq!(effects[0].key, effects[1].key, "the same deed keeps its key");
    }
    house.close_with(&[&sink]).await;
}

async fn a_kill_leaves_items_that_are_not_safe_to_a_person(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = killed_in_the_middle(mode, &sink, "POST").await;
    house.wait_for_pause(&run, "engine_interrupted").await;
    assert_eq!(paths(&sink), ["/a", "/b", "/c"], "nothing is repeated unasked");

    let command = |verb: &str| format!("/v1/workflow-runs/{run}/{verb}");
    house.post(&command("skip"), &json!({"node": "send.do"})).await.refused(422, "invalid_body");
    house.post(&command("skip"), &json!({"node": "send.do", "item": 1})).await.ok();
    house.post(&command("retry"), &json!({"node": "send.do", "item": 2})).await.ok();

    house.wait_for(&run, "completed").await;
    assert_eq!(paths(&sink), ["/a", "/b", "/c", "/c", "/d"]);
    assert_eq!(item(&house, &run, "send.do", 1).await["status"], "skipped");
    house.close_with(&[&sink]).await;
}

async fn a_cancel_undoes_the_items_that_took_effect(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/c").fails("/b", 1, 409);
    let undo = ", compensate: { type: http, with: { method: PUT, \
                url: '${{ inputs.sink }}/undo-${{ parcel }}', json: { was: '${{ item.output }}' } } }";
    let yaml = parcels("PUT", ", tolerate: { failed_count: 1 }", undo);
    let run = house.run(&yaml, json!({"sink": sink.url()})).await;
    sink.wait_for("/c", 1).await;
    sink.wait_for("/d", 1).await;
    house.cancel(&run).await.ok();

    let ended = house.wait_for(&run, "canceled").await;

    assert_eq!(ended["compensation"]["outcome"], "succeeded");
    let undone: Vec<String> = paths(&sink).into_iter().filter(|path| path.starts_with("/undo")).collect();
    assert_eq!(undone, ["/undo-a", "/undo-c", "/undo-d"], "b was refused for sure");
    assert_eq!(sink.at("/undo-a")[0].body["was"]["status"], 200);
    assert_eq!(item(&house, &run, "send.do.compensate", 0).await["compensates"], "send.do");
    house.close_with(&[&sink]).await;
}
