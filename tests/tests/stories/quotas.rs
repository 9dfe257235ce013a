//! Quotas: no more runs are open than may be, and what has started may finish.

use reqwest::Method;
use scenarios::house::Plan;
use scenarios::{Answer, House, Mode, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_run_that_is_one_too_many_is_refused_until_one_has_ended,
    what_a_run_starts_is_never_refused,
    a_run_is_not_run_again_while_there_is_no_room,
    a_schedule_starts_nothing_while_there_is_no_room,
    what_is_sent_again_is_answered_as_before,
);

const GATE: &str = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval } ] }";
const QUICK: &str = "{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }";
const FAMILY: &str = "{ version: 1, name: family, type: dag, nodes: { \
    sides: { type: parallel, branches: { left: [ { id: a, type: noop } ], right: [ { id: b, type: noop } ] } }, \
    child: { type: workflow, workflow: quick } } }";

/// One API, whose count is exact: several of them may exceed the quota together by what they start in a second.
async fn house_with(mode: Mode, open_runs_max: &str) -> House {
    let house = Plan::of(mode).apis(1).with(&[("WINDLASS_OPEN_RUNS_MAX", open_runs_max)]).open().await;
    for workflow in [GATE, QUICK, FAMILY] {
        house.push(workflow).await;
    }
    house
}

async fn create(house: &House, workflow: &str, key: &str) -> Answer {
    let request = house.request(Method::POST, "/v1/workflow-runs").header("Idempotency-Key", key);
    house.send(request.json(&json!({ "workflow": workflow }))).await.expect("the house answers")
}

#[track_caller]
fn assert_full(refused: &Answer) {
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("quota")), "{refused}");
    assert_eq!(refused.header("retry-after"), "1");
}

async fn a_run_that_is_one_too_many_is_refused_until_one_has_ended(mode: Mode) {
    let house = house_with(mode, "2").await;
    let first = house.start("gate", json!({})).await;
    house.start("gate", json!({})).await;
    for _ in 0..3 {
        assert_full(&create(&house, "gate", "third").await);
    }
    let inline = json!({ "spec": { "version": 1, "name": "own", "type": "steps", "steps": [{"id": "a", "type": "noop"}] } });
    assert_full(&house.post("/v1/workflow-runs", &inline).await);
    house.post("/v1/workflow-runs", &json!({ "workflow": "nobody" })).await.refused(422, "unknown_workflow");
    house.post("/v1/workflow-runs", &json!({})).await.refused(422, "invalid_body");
    assert_eq!(house.all_runs().await.len(), 2, "nothing was written");
    let metrics = house.get("/metrics").await.text;
    assert!(metrics.contains("windlass_quota_refusals_total 4"), "{metrics}");

    house.cancel(&first).await.ok();
    house.wait_for(&first, "canceled").await;
    // The key is not used up by what was refused.
    assert_eq!(create(&house, "gate", "third").await.status, 201);
    assert_full(&create(&house, "gate", "fourth").await);
    house.close().await;
}

async fn what_a_run_starts_is_never_refused(mode: Mode) {
    let house = house_with(mode, "1").await;
    let run = house.start("family", json!({})).await;
    house.wait_for(&run, "completed").await;
    assert_eq!(house.children(&run).await.len(), 3);
    house.close().await;
}

async fn a_run_is_not_run_again_while_there_is_no_room(mode: Mode) {
    let house = house_with(mode, "1").await;
    let ended = house.start("quick", json!({})).await;
    house.wait_for(&ended, "completed").await;
    let gate = house.start("gate", json!({})).await;
    assert_full(&house.command(&ended, "rerun", &json!({})).await);
    assert_eq!(house.command(&ended, "rerun", &json!({ "dry_run": true })).await.status, 200);
    house.push(&GATE.replace(" ] }", ", { id: more, type: noop } ] }")).await;
    house.pause(&gate).await.ok();
    house.wait_for(&gate, "paused").await;
    // A run that takes the place of another one is none more.
    let moved = house.command(&gate, "move", &json!({ "version": "latest" })).await;
    assert_eq!(moved.status, 201, "{moved}");
    let moved = moved.body["run"]["id"].as_str().expect("a run has an id").to_owned();
    house.cancel(&moved).await.ok();
    house.wait_for(&moved, "canceled").await;
    let again = house.command(&ended, "rerun", &json!({})).await;
    assert_eq!(again.status, 201, "{again}");
    house.close().await;
}

async fn a_schedule_starts_nothing_while_there_is_no_room(mode: Mode) {
    let house = house_with(mode, "1").await;
    let gate = house.start("gate", json!({})).await;
    let schedule = json!({ "name": "often", "workflow": "quick", "cron": "0 0 1 1 *", "time_zone": "UTC" });
    house.post("/v1/schedules", &schedule).await.ok();
    let shown = async || house.get("/v1/schedules/often").await.ok();
    house.post("/v1/schedules/often/trigger", &json!({})).await.ok();
    let passed = eventually("the time has passed", || async {
        Some(shown().await).filter(|schedule| schedule["last_problem"].is_string())
    })
    .await;
    assert_eq!(passed["last_problem"], "as many runs are open as may be: 1", "{passed}");
    assert_eq!(passed["last_run_id"], Value::Null);
    house.cancel(&gate).await.ok();
    house.wait_for(&gate, "canceled").await;
    house.post("/v1/schedules/often/trigger", &json!({})).await.ok();
    let run = eventually("a run has started", || async {
        shown().await["last_run_id"].as_str().map(str::to_owned)
    })
    .await;
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn what_is_sent_again_is_answered_as_before(mode: Mode) {
    let house = house_with(mode, "1").await;
    let first = create(&house, "gate", "once").await;
    assert_eq!(first.status, 201);
    assert_full(&create(&house, "gate", "twice").await);
    let again = create(&house, "gate", "once").await;
    assert_eq!((again.status, &again.body["id"]), (201, &first.body["id"]), "{again}");
    house.close().await;
}
