//! Steps, timeline and explanation.

use serde_json::json;

use crate::house::{House, RUNS, gate, quick, steps};

#[tokio::test]
async fn a_timeline_tells_when_each_attempt_ran() {
    let house = House::new();
    let run = house.run(&steps("t", json!([{"id": "a", "type": "noop"}, {"id": "b", "type": "fail"}]))).await;
    house.command(&run, "retry", json!({})).await.ok();
    house.drive(&run).await;
    let timeline = house.get(&format!("{RUNS}/{run}/timeline")).await.ok();
    let rows: Vec<_> = timeline["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["node"], &it["attempt"], &it["outcome"]))
        .collect();
    assert_eq!(
        rows,
        [
            (&json!("a"), &json!(1), &json!("succeeded")),
            (&json!("b"), &json!(1), &json!("failed")),
            (&json!("b"), &json!(2), &json!("failed"))
        ]
    );
    assert_eq!(
        house.get(&format!("{RUNS}/{run}/steps")).await.ok()["items"][1]["attempts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn an_explanation_says_what_a_run_waits_for_and_what_would_move_it() {
    let house = House::new();
    let explain = async |run: &str| house.get(&format!("{RUNS}/{run}/explain")).await.ok();

    let queued = explain(&house.start(&quick("q")).await).await;
    assert_eq!(
        (&queued["summary"], &queued["would_move"]),
        (&json!("The run waits for an engine to take it."), &json!(["pause", "cancel"]))
    );

    let parked = explain(&house.run(&gate("g")).await).await;
    assert_eq!(
        parked["steps"][0],
        json!({"node": "ok", "status": "waiting", "sentence": "It waits for an approval."})
    );
    assert_eq!(parked["would_move"], json!(["pause", "cancel", "approve ok", "reject ok", "skip ok"]));

    let red = explain(&house.run(&steps("r", json!([{"id": "a", "type": "fail"}]))).await).await;
    assert_eq!(red["summary"], "The run is paused (step_failed) and needs a person.");
    assert_eq!(red["steps"][0]["sentence"], "Attempt 1 failed: It fails (test.failed).");
    assert_eq!(red["would_move"], json!(["resume", "cancel", "retry", "skip a"]));

    let spec =
        steps("s", json!([{"id": "hear", "type": "signal", "name": "go", "schema": {"type": "object"}}]));
    let listening = explain(&house.run(&spec).await).await;
    assert_eq!(listening["would_move"], json!(["pause", "cancel", "skip hear", "signal go"]));

    let nap = explain(&house.run(&steps("n", json!([{"id": "a", "type": "wait", "for": "1h"}]))).await).await;
    assert!(
        nap["wakes_at"].is_string() && nap["summary"].as_str().unwrap().contains("wakes by itself"),
        "{nap}"
    );

    let held = house.start(&steps("h", json!([{"id": "a", "type": "hang"}]))).await;
    let _held = house.hold(&held).await;
    let running = explain(&held).await;
    assert!(running["held_by"].is_string(), "{running}");
    assert_eq!(running["steps"][0]["sentence"], "Attempt 1 is in flight.");
    let timeline = house.get(&format!("{RUNS}/{held}/timeline")).await.ok();
    assert_eq!(
        (&timeline["items"][0]["ended_at"], &timeline["items"][0]["outcome"]),
        (&json!(null), &json!(null))
    );
}

#[tokio::test]
async fn the_output_of_a_step_is_read_raw() {
    let house = House::new();
    let run = house.run(&steps("o", json!([{"id": "a", "type": "transform", "output": [1, {"b": null}]}, {"id": "ok", "type": "approval"}]))).await;
    assert_eq!(house.get(&format!("{RUNS}/{run}/steps/a/output")).await.text, r#"[1,{"b":null}]"#);
    assert_eq!(house.get(&format!("{RUNS}/{run}/steps/ok/output")).await.text, "null");
    house.get(&format!("{RUNS}/{run}/steps/ghost/output")).await.refused(404, "not_found");
    house.get(&format!("{RUNS}/{run}/steps/a/output?item=0")).await.refused(404, "not_found");

    let each = json!({"id": "each", "type": "map", "each": "${{ [1, 2] }}", "do": {"type": "transform", "output": 7}});
    let run = house.run(&steps("m", json!([each]))).await;
    let item = async |item: &str| house.get(&format!("{RUNS}/{run}/steps/each.do/output?item={item}")).await;
    assert_eq!(item("0").await.ok(), 7);
    assert_eq!(item("1").await.ok(), 7);
    for beyond in ["2", "4294967295"] {
        item(beyond).await.refused(404, "not_found");
    }
}
