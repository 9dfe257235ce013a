//! Schedules: runs that start by themselves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use scenarios::{Answer, House, Mode, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_schedule_is_made_read_changed_paused_and_deleted,
    a_trigger_starts_one_run_and_leaves_the_times_to_come,
    each_trigger_starts_a_run_of_its_own,
    a_paused_schedule_can_be_triggered_and_stays_paused,
    a_time_comes_once_whoever_dies,
    nothing_starts_while_the_run_before_is_under_way,
    nothing_starts_while_the_run_that_took_its_place_is_under_way,
    a_run_waits_for_the_one_before_when_the_schedule_says_so,
    a_run_cancels_the_one_before_when_the_schedule_says_so,
    runs_side_by_side_when_the_schedule_says_so,
    a_schedule_that_cannot_start_its_run_says_why,
    a_schedule_that_makes_no_sense_is_refused,
);

const REPORT: &str = "{ version: 1, name: report, type: steps, \
    inputs: { type: object, required: [of], properties: { of: { type: string } }, additionalProperties: false }, \
    steps: [ { id: a, type: transform, output: '${{ inputs.of }} ${{ run.scheduled_at }}' } ], \
    outputs: '${{ nodes.a.output }}' }";
const GATE: &str = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval } ] }";

fn nightly(more: Value) -> Value {
    let mut body = json!({
        "name": "nightly", "workflow": "report", "cron": "30 2 * * *", "time_zone": "Europe/Berlin",
        "inputs": {"of": "day"}, "labels": {"by": "night"},
    });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    body
}

fn gates(overlap: &str) -> Value {
    nightly(json!({"name": "gates", "workflow": "gate", "inputs": {}, "overlap": overlap}))
}

async fn set(house: &House, body: &Value) -> Value {
    house.post("/v1/schedules", body).await.ok()
}

async fn get(house: &House, name: &str) -> Value {
    house.get(&format!("/v1/schedules/{name}")).await.ok()
}

async fn tell(house: &House, name: &str, verb: &str) -> Value {
    house.post(&format!("/v1/schedules/{name}/{verb}"), &json!({})).await.ok()
}

/// Lets its time come, and waits until that has been seen to.
async fn trigger(house: &House, name: &str) -> Value {
    let at = moment(&tell(house, name, "trigger").await["next_at"]);
    let look = async || {
        Some(get(house, name).await).filter(|it| it["last_at"].is_string() && moment(&it["last_at"]) >= at)
    };
    eventually("the time of a schedule", look).await
}

async fn last_run(house: &House, name: &str) -> String {
    let schedule = trigger(house, name).await;
    schedule["last_run_id"].as_str().unwrap_or_else(|| panic!("no run: {schedule:#}")).to_owned()
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no time"))
}

async fn a_schedule_is_made_read_changed_paused_and_deleted(mode: Mode) {
    let house = House::open(mode).await;
    house.push(REPORT).await;
    let made = house.post("/v1/schedules", &nightly(json!({}))).await;
    assert_eq!(made.status, 201, "{:#}", made.body);
    let next: Vec<Timestamp> = made.body["next"].as_array().unwrap().iter().map(moment).collect();
    assert_eq!(next.len(), 5);
    assert!(next.windows(2).all(|pair| pair[0] < pair[1]) && next[0] > Timestamp::now(), "{next:?}");
    assert_eq!(made.body["next_at"], made.body["next"][0]);
    assert_eq!(made.body["catch_up"], "1h");
    let changed = house.post("/v1/schedules", &nightly(json!({"overlap": "allow", "catch_up": "90m"}))).await;
    assert_eq!((changed.status, &changed.body["catch_up"]), (200, &json!("90m")));
    let listed = house.get("/v1/schedules").await.ok();
    assert_eq!(
        (&listed["items"][0]["name"], &listed["items"][0]["overlap"]),
        (&json!("nightly"), &json!("allow"))
    );

    assert_eq!(tell(&house, "nightly", "pause").await["next"], json!([]));
    let resumed = tell(&house, "nightly", "resume").await;
    assert_eq!((&resumed["paused"], moment(&resumed["next_at"])), (&json!(false), next[0]));

    let change = |etag: &str, method: Method| {
        let request = house.request(method, "/v1/schedules/nightly").header("If-Match", etag.to_owned());
        house.send(request.json(&nightly(json!({"cron": "@hourly"}))))
    };
    assert_eq!(change("\"1\"", Method::PUT).await.unwrap().status, 412);
    let changed: Answer = change("*", Method::PUT).await.unwrap();
    assert_eq!((changed.status, &changed.body["cron"]), (200, &json!("@hourly")));
    assert_eq!(change("*", Method::DELETE).await.unwrap().status, 204);
    assert_eq!(house.get("/v1/schedules/nightly").await.status, 404);
    house.close().await;
}

async fn a_trigger_starts_one_run_and_leaves_the_times_to_come(mode: Mode) {
    let house = House::open(mode).await;
    house.push(REPORT).await;
    let made = set(&house, &nightly(json!({"priority": "high"}))).await;
    let run = last_run(&house, "nightly").await;
    let after = get(&house, "nightly").await;
    assert_eq!(after["next"], made["next"]);
    let ended = house.wait_for(&run, "completed").await;
    assert_eq!((&ended["labels"], &ended["priority"]), (&json!({"by": "night"}), &json!("high")));
    assert_eq!(ended["schedule"], json!({"name": "nightly", "at": after["last_at"]}));
    assert_eq!(ended["output"], format!("day {}", after["last_at"].as_str().unwrap()));
    assert_eq!(house.all_runs().await.len(), 1);
    house.close().await;
}

async fn each_trigger_starts_a_run_of_its_own(mode: Mode) {
    let house = House::open(mode).await;
    house.push(REPORT).await;
    set(&house, &nightly(json!({"overlap": "allow"}))).await;
    // Far sooner than workers look.
    futures::future::join_all((0..2).map(|_| tell(&house, "nightly", "trigger"))).await;
    let runs = eventually("as many runs as were asked for", async || {
        Some(house.all_runs().await).filter(|runs| runs.len() == 2)
    })
    .await;
    for run in runs {
        house.wait_for(&run, "completed").await;
    }
    house.close().await;
}

async fn a_paused_schedule_can_be_triggered_and_stays_paused(mode: Mode) {
    let house = House::open(mode).await;
    house.push(REPORT).await;
    set(&house, &nightly(json!({"paused": true}))).await;
    let run = last_run(&house, "nightly").await;
    house.wait_for(&run, "completed").await;
    let after = get(&house, "nightly").await;
    assert_eq!((&after["paused"], &after["next_at"]), (&json!(true), &Value::Null));
    house.close().await;
}

async fn a_time_comes_once_whoever_dies(mode: Mode) {
    let mut house = House::open(mode).await;
    house.push(REPORT).await;
    set(&house, &nightly(json!({"overlap": "allow"}))).await;
    for round in 1..=3 {
        let at = moment(&tell(&house, "nightly", "trigger").await["next_at"]);
        tokio::time::sleep(Duration::from_millis(round * 150)).await;
        house.kill().await;
        house.rise().await;
        let look = async || {
            let schedule = get(&house, "nightly").await;
            Some(schedule).filter(|it| it["last_at"].is_string() && moment(&it["last_at"]) >= at)
        };
        eventually("the time of a schedule", look).await;
        assert_eq!(house.all_runs().await.len() as u64, round, "one for each time");
    }
    for run in house.all_runs().await {
        house.wait_for(&run, "completed").await;
    }
    house.close().await;
}

async fn nothing_starts_while_the_run_before_is_under_way(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GATE).await;
    set(&house, &gates("skip")).await;
    let first = last_run(&house, "gates").await;
    house.wait_for_gate(&first, "ok").await;
    let skipped = trigger(&house, "gates").await;
    assert_eq!(skipped["last_run_id"], first.as_str());
    assert!(skipped["last_problem"].as_str().unwrap().contains("under way"), "{skipped:#}");
    house.approve(&first, "ok").await.ok();
    house.wait_for(&first, "completed").await;
    let second = last_run(&house, "gates").await;
    assert_ne!(first, second);
    house.approve(&second, "ok").await.ok();
    house.wait_for(&second, "completed").await;
    house.close().await;
}

async fn nothing_starts_while_the_run_that_took_its_place_is_under_way(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GATE).await;
    set(&house, &gates("skip")).await;
    let first = last_run(&house, "gates").await;
    house.wait_for_gate(&first, "ok").await;
    house.pause(&first).await.ok();
    let moved = house.command(&first, "move", &json!({"version": 1})).await.ok();
    let second = moved["run"]["id"].as_str().expect("a new run").to_owned();
    house.wait_for_gate(&second, "ok").await;
    let skipped = trigger(&house, "gates").await;
    assert_eq!(skipped["last_problem"], json!(format!("run {second} was still under way")), "{skipped:#}");
    house.approve(&second, "ok").await.ok();
    house.wait_for(&second, "completed").await;
    let third = last_run(&house, "gates").await;
    assert!(![&first, &second].contains(&&third));
    house.cancel(&third).await.ok();
    house.close().await;
}

async fn a_run_waits_for_the_one_before_when_the_schedule_says_so(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GATE).await;
    set(&house, &gates("queue")).await;
    let first = last_run(&house, "gates").await;
    house.wait_for_gate(&first, "ok").await;
    let second = last_run(&house, "gates").await;
    let waits = house.wait_for(&second, "waiting").await;
    assert_eq!(waits["concurrency"]["group"], "schedule:gates", "{waits:#}");
    for run in [&first, &second] {
        house.approve(run, "ok").await.ok();
        house.wait_for(run, "completed").await;
    }
    house.close().await;
}

async fn a_run_cancels_the_one_before_when_the_schedule_says_so(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GATE).await;
    set(&house, &gates("cancel_running")).await;
    let first = last_run(&house, "gates").await;
    house.wait_for_gate(&first, "ok").await;
    let second = last_run(&house, "gates").await;
    house.wait_for(&first, "canceled").await;
    house.approve(&second, "ok").await.ok();
    house.wait_for(&second, "completed").await;
    house.close().await;
}

async fn runs_side_by_side_when_the_schedule_says_so(mode: Mode) {
    let house = House::open(mode).await;
    house.push(GATE).await;
    set(&house, &gates("allow")).await;
    let first = last_run(&house, "gates").await;
    let second = last_run(&house, "gates").await;
    for run in [&first, &second] {
        house.wait_for_gate(run, "ok").await;
    }
    for run in [&second, &first] {
        house.approve(run, "ok").await.ok();
        house.wait_for(run, "completed").await;
    }
    house.close().await;
}

async fn a_schedule_that_cannot_start_its_run_says_why(mode: Mode) {
    let house = House::open(mode).await;
    house.push(REPORT).await;
    set(&house, &nightly(json!({}))).await;
    let other = REPORT.replace("of: { type: string }", "of: { type: integer }");
    house.push(&other).await;
    let failed = trigger(&house, "nightly").await;
    assert!(failed["last_problem"].as_str().unwrap().starts_with("schema.input: "), "{failed:#}");
    assert!(moment(&failed["next_at"]) > Timestamp::now() - SignedDuration::from_secs(60), "it goes on");
    assert!(house.all_runs().await.is_empty());
    house.close().await;
}

async fn a_schedule_that_makes_no_sense_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    house.push(REPORT).await;
    for (more, code, pointer) in [
        (json!({"cron": "61 * * * *"}), "invalid_body", "/cron"),
        (json!({"cron": "* * * * * *"}), "invalid_body", "/cron"),
        (json!({"cron": "0 0 30 2 *"}), "invalid_body", "/cron"),
        (json!({"time_zone": "Europe/Atlantis"}), "invalid_body", "/time_zone"),
        (json!({"name": "No Name"}), "invalid_body", "/name"),
        (json!({"catch_up": "soon"}), "invalid_body", "/catch_up"),
        (json!({"workflow": "nobody"}), "unknown_workflow", "/workflow"),
        (json!({"inputs": {}}), "invalid_inputs", "/inputs"),
    ] {
        let refused = house.post("/v1/schedules", &nightly(more.clone())).await;
        assert_eq!((refused.status, &refused.body["code"]), (422, &json!(code)), "{more} {:#}", refused.body);
        let found = refused.body["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(found.starts_with(pointer), "{more}: {found}");
    }
    assert_eq!(house.get("/v1/schedules").await.ok()["items"], json!([]));
    house.close().await;
}
