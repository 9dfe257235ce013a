//! Runs that start later than they were asked for.

use jiff::{SignedDuration, Timestamp};
use scenarios::client::id_of;
use scenarios::{House, Mode, definition, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_run_starts_when_its_time_has_come_and_not_before,
    a_start_that_is_due_while_nobody_is_there_comes_late_and_once,
    a_run_that_has_not_started_can_be_canceled_and_does_nothing,
    a_run_that_has_not_started_can_be_paused_and_resumed,
    the_time_that_a_run_may_take_counts_from_its_start,
    a_start_that_cannot_be_is_refused,
);

const TWO_STEPS: &str = "{ version: 1, name: later, type: steps, timeout: 5s, steps: [ { id: a, type: noop }, { id: b, type: noop } ] }";

async fn start_at(house: &House, when: &str) -> Value {
    let body = json!({"spec": definition::parse(TWO_STEPS), "start_at": when});
    house.post("/v1/workflow-runs", &body).await.ok()
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no time"))
}

async fn a_run_starts_when_its_time_has_come_and_not_before(mode: Mode) {
    let house = House::open(mode).await;
    // Whole seconds: the house keeps microseconds.
    let when = Timestamp::from_second((Timestamp::now() + SignedDuration::from_secs(3)).as_second()).unwrap();
    let created = start_at(&house, &when.to_string()).await;
    assert_eq!(created["status"], "waiting", "{created:#}");
    assert_eq!(moment(&created["wake_at"]), when);

    let run = id_of(&created);
    let listed = house.get("/v1/workflow-runs?status=waiting").await.ok();
    assert_eq!(listed["items"][0]["id"], run.as_str(), "{listed:#}");
    let explained = house.get(&format!("/v1/workflow-runs/{run}/explain")).await.ok();
    assert!(explained["summary"].as_str().unwrap().starts_with("The run starts at "), "{explained:#}");

    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(moment(&ended["start_at"]), when);
    let begun = house.events(&run).await.first("step.started").at;
    let late = begun.duration_since(when);
    assert!(begun >= when && late < SignedDuration::from_secs(3), "late by {late}");
    house.close().await;
}

async fn a_start_that_is_due_while_nobody_is_there_comes_late_and_once(mode: Mode) {
    let mut house = House::open(mode).await;
    let run = id_of(&start_at(&house, "2s").await);
    house.kill().await;
    tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
    house.rise().await;
    house.wait_for(&run, "completed").await;
    assert_eq!(house.events(&run).await.count("step.started"), 2);
    house.close().await;
}

async fn a_run_that_has_not_started_can_be_canceled_and_does_nothing(mode: Mode) {
    let house = House::open(mode).await;
    let run = id_of(&start_at(&house, "7d").await);
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    assert_eq!(house.events(&run).await.count("step.started"), 0);
    house.close().await;
}

async fn a_run_that_has_not_started_can_be_paused_and_resumed(mode: Mode) {
    let house = House::open(mode).await;
    let run = id_of(&start_at(&house, "2s").await);
    house.pause(&run).await.ok();
    let resumed = house.resume(&run).await.ok();
    assert_eq!(resumed["status"], "waiting", "its time has not come: {resumed:#}");
    let start_at = moment(&house.get_run(&run).await["start_at"]);
    house.wait_for(&run, "completed").await;
    assert!(house.events(&run).await.first("step.started").at >= start_at);
    house.close().await;
}

async fn the_time_that_a_run_may_take_counts_from_its_start(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.get_run(&id_of(&start_at(&house, "1h").await)).await;
    let span = moment(&run["deadline_at"]).duration_since(moment(&run["start_at"]));
    assert_eq!(span, SignedDuration::from_secs(5));
    house.cancel(&id_of(&run)).await.ok();
    house.close().await;
}

async fn a_start_that_cannot_be_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let spec = definition::parse(TWO_STEPS);
    for (start_at, deadline, pointer) in [
        ("2001-01-01T00:00:00Z", None, "/start_at"),
        ("9999-12-31T23:59:59Z", None, "/start_at"),
        ("-5s", None, "/start_at"),
        ("soon", None, "/start_at"),
        ("2h", Some("1h"), "/deadline"),
    ] {
        let mut body = json!({"spec": spec, "start_at": start_at});
        if let Some(deadline) = deadline {
            body["deadline"] = deadline.into();
        }
        let answer = house.post("/v1/workflow-runs", &body).await;
        assert_eq!(answer.status, 422, "{start_at}");
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{:#}", answer.body);
    }
    house.close().await;
}
