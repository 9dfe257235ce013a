//! One command for many runs.

use reqwest::Method;
use scenarios::{Answer, House, Mode, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_dry_run_says_what_would_happen_and_changes_nothing,
    each_run_that_a_filter_finds_is_told_once,
    one_that_refuses_keeps_no_other_from_being_told,
    the_same_key_tells_nobody_twice,
    page_by_page_everybody_is_told,
    a_request_that_is_not_clear_is_refused,
);

const GATE: &str = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval } ] }";
const NOOP: &str = "{ version: 1, name: noop, type: steps, steps: [ { id: a, type: noop } ] }";
const BULK: &str = "/v1/workflow-runs/bulk";

/// So many runs that wait for an approval, oldest first.
async fn gates(house: &House, count: usize) -> Vec<String> {
    house.push(GATE).await;
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(house.start("gate", json!({})).await);
    }
    for run in &runs {
        house.wait_for_gate(run, "ok").await;
    }
    runs
}

async fn with_key(house: &House, key: &str, body: &Value) -> Answer {
    let request = house.request(Method::POST, BULK).header("Idempotency-Key", key).json(body);
    house.send(request).await.expect("the house answers")
}

fn outcomes(answer: &Value) -> Vec<(&str, &str)> {
    let items = answer["items"].as_array().expect("a list of items");
    items.iter().map(|it| (it["run_id"].as_str().unwrap(), it["outcome"].as_str().unwrap())).collect()
}

async fn a_dry_run_says_what_would_happen_and_changes_nothing(mode: Mode) {
    let house = House::open(mode).await;
    let runs = gates(&house, 2).await;
    let before = house.events(&runs[0]).await.0.len();

    let body = json!({"action": "cancel", "filter": {"workflow": "gate"}, "dry_run": true});
    let said = house.post(BULK, &body).await.ok();

    assert_eq!((&said["dry_run"], &said["done"], &said["refused"]), (&json!(true), &json!(2), &json!(0)));
    assert_eq!(outcomes(&said), [(runs[1].as_str(), "done"), (runs[0].as_str(), "done")], "newest first");
    assert_eq!(house.events(&runs[0]).await.0.len(), before);
    assert_eq!(house.get_run(&runs[0]).await["status"], "waiting");
    house.close().await;
}

async fn each_run_that_a_filter_finds_is_told_once(mode: Mode) {
    let house = House::open(mode).await;
    let runs = gates(&house, 20).await;
    let other = house.run(&GATE.replace("gate", "other"), json!({})).await;
    house.wait_for_gate(&other, "ok").await;

    let body = json!({"action": "cancel", "reason": "wrong customer",
                      "filter": {"workflow": "gate", "status": ["waiting"]}});
    let said = house.post(BULK, &body).await.ok();

    assert_eq!(
        (&said["done"], &said["refused"], &said["next_cursor"]),
        (&json!(20), &json!(0), &Value::Null)
    );
    for run in &runs {
        house.wait_for(run, "canceled").await;
        let log = house.events(run).await;
        assert_eq!(log.count("run.cancel_requested"), 1, "{log}");
        assert!(log.to_string().contains("wrong customer"));
    }
    assert_eq!(house.get_run(&other).await["status"], "waiting");
    house.close().await;
}

async fn one_that_refuses_keeps_no_other_from_being_told(mode: Mode) {
    let house = House::open(mode).await;
    let runs = gates(&house, 2).await;
    let ended = house.run(NOOP, json!({})).await;
    house.wait_for(&ended, "completed").await;
    let unknown = "01890000-0000-7000-8000-000000000000";

    let ids = [&runs[0], &ended, unknown, &runs[1], &runs[0]];
    let said = house.post(BULK, &json!({"action": "pause", "ids": ids})).await.ok();

    let expected =
        [(runs[0].as_str(), "done"), (&ended, "refused"), (unknown, "refused"), (runs[1].as_str(), "done")];
    assert_eq!(outcomes(&said), expected, "in the order of the request, each once");
    assert_eq!((&said["done"], &said["refused"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&said["items"][1]["code"], &said["items"][1]["status"]),
        (&json!("run_terminal"), &json!("completed"))
    );
    assert_eq!(said["items"][2]["code"], "not_found");
    for run in &runs {
        house.wait_for_pause(run, "requested").await;
    }
    house.close().await;
}

async fn the_same_key_tells_nobody_twice(mode: Mode) {
    let mut house = House::open(mode).await;
    let runs = gates(&house, 3).await;
    let pause = json!({"action": "pause", "ids": runs});
    let first = with_key(&house, "night shift", &pause).await;
    first.refused(400, "invalid_header");

    let first = with_key(&house, "night-shift", &pause).await.ok();
    house.post(BULK, &json!({"action": "resume", "ids": runs})).await.ok();
    house.kill_and_rise().await;
    let again = with_key(&house, "night-shift", &pause).await;

    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.ok(), first);
    for run in &runs {
        assert_eq!(house.events(run).await.count("run.paused"), 1, "it was resumed, and stays so");
    }
    let other = json!({"action": "cancel", "ids": runs});
    with_key(&house, "night-shift", &other).await.refused(422, "idempotency_key_reused");
    house.close().await;
}

async fn page_by_page_everybody_is_told(mode: Mode) {
    let house = House::open(mode).await;
    let runs = gates(&house, 5).await;
    let mut told = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let body = json!({"action": "pause", "filter": {}, "limit": 2, "cursor": cursor});
        let said = house.post(BULK, &body).await.ok();
        told.extend(outcomes(&said).into_iter().map(|(run, _)| run.to_owned()));
        cursor = said["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    told.reverse();
    assert_eq!(told, runs);
    for run in &runs {
        house.wait_for_pause(run, "requested").await;
    }
    house.close().await;
}

async fn a_request_that_is_not_clear_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let run = gates(&house, 1).await.remove(0);
    let before = house.events(&run).await.0.len();
    for (body, pointer) in [
        (json!({"action": "pause"}), ""),
        (json!({"action": "pause", "ids": [run], "filter": {}}), ""),
        (json!({"action": "pause", "ids": [run], "limit": 1}), "/limit"),
        (json!({"action": "pause", "filter": {}, "limit": 0}), "/limit"),
        (json!({"action": "pause", "filter": {}, "limit": 1001}), "/limit"),
        (json!({"action": "pause", "ids": [run], "reason": "x"}), "/reason"),
        (json!({"action": "cancel", "ids": [run], "reason": "x".repeat(4_001)}), "/reason"),
        (json!({"action": "pause", "filter": {"status": ["asleep"]}}), "/filter/status"),
        (json!({"action": "pause", "filter": {"label": ["no colon"]}}), "/filter/label"),
        (json!({"action": "pause", "filter": {"created_after": "yesterday"}}), "/filter/created_after"),
        (json!({"action": "pause", "filter": {"text": ""}}), "/filter/text"),
        (json!({"action": "pause", "ids": vec![&run; 1_001]}), "/ids"),
        (json!({"action": "pause", "ids": ["abc"]}), "/ids/0"),
        (json!({"action": "explode", "ids": [run]}), "/action"),
        (json!({"action": "pause", "filter": {"colour": "red"}}), "/filter/colour"),
    ] {
        let answer = house.post(BULK, &body).await;
        let problem = answer.refused(422, "invalid_body");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    let stale = json!({"action": "pause", "filter": {}, "cursor": "abc"});
    house.post(BULK, &stale).await.refused(400, "invalid_cursor");
    assert_eq!(house.events(&run).await.0.len(), before);
    house.close().await;
}
