//! What the house says about itself.

use scenarios::house::Role;
use scenarios::{Answer, House, Mode, Process, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_house_that_is_up_is_alive_and_ready,
    metrics_count_what_happened,
    the_api_describes_itself_and_loads_nothing_from_elsewhere,
    every_answer_carries_the_id_of_its_request,
    a_house_that_was_held_still_is_ready_again_soon,
    a_worker_is_not_ready_while_a_loop_of_its_own_does_not_turn,
    a_worker_is_not_ready_while_it_cannot_see_to_schedules,
    the_log_of_the_server_has_one_line_per_record;
    // The disk of a fleet is its database server's own.
    embedded only: nobody_is_ready_on_a_full_disk_and_everybody_once_there_is_room,
);

const QUICK: &str = "{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }";

async fn a_house_that_is_up_is_alive_and_ready(mode: Mode) {
    let house = House::open(mode).await;
    for process in house.processes() {
        assert_eq!(process.get("/healthz").await.ok()["status"], "ok");
        process.until_ready().await;
        let ready = process.get("/readyz").await.ok();
        let checked: Vec<&str> =
            ready["checked"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let expected: &[&str] = if process.role() == Role::Api {
            &["store"]
        } else {
            &["store", "progress", "relay", "schedules", "session", "sweep", "timers"]
        };
        assert_eq!(checked, expected, "{}", process.name());
    }
    assert!(house.get("/version").await.ok()["version"].is_string());
    house.close().await;
}

async fn metrics_count_what_happened(mode: Mode) {
    let house = House::open(mode).await;
    for _ in 0..3 {
        let run = house.run(QUICK, json!({})).await;
        house.wait_for(&run, "completed").await;
    }
    let value = |text: &str, start: &str| -> Option<u32> {
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let mut ended = 0;
    for process in house.processes() {
        let text = process.get("/metrics").await.text;
        // Each counts what it has done itself, and all of them see what is there.
        ended += value(&text, r#"windlass_runs_ended_total{status="completed"}"#).unwrap_or(0);
        assert_eq!(value(&text, r#"runs{status="completed"}"#), Some(3), "{}: {text}", process.name());
    }
    assert_eq!(ended, 3);
    house.close().await;
}

async fn the_api_describes_itself_and_loads_nothing_from_elsewhere(mode: Mode) {
    let house = House::open(mode).await;
    let description = house.get("/openapi.json").await.ok();
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for path in ["/v1/workflows", "/v1/workflow-runs", "/v1/workflow-runs/{id}/events", "/v1/approvals"] {
        assert!(description["paths"][path].is_object(), "{path} is not described");
    }
    let page = house.get("/docs").await;
    assert!(page.is_ok() && page.header("content-type").starts_with("text/html"), "{page}");
    for elsewhere in ["src=\"http", "href=\"http", "src=\"//", "href=\"//", "@import", "url(http"] {
        assert!(!page.text.contains(elsewhere), "the page loads from elsewhere: {elsewhere}");
    }
    house.close().await;
}

async fn every_answer_carries_the_id_of_its_request(mode: Mode) {
    let house = House::open(mode).await;
    for path in ["/healthz", "/v1/workflows", "/nowhere"] {
        let request = house.request(reqwest::Method::GET, path).header("X-Request-Id", "my-own-id");
        let answer = house.send(request).await.expect("the house answers");
        assert_eq!(answer.header("x-request-id"), "my-own-id", "{path}");
        assert!(!house.get(path).await.header("x-request-id").is_empty(), "{path}");
    }
    let evil = house.request(reqwest::Method::GET, "/nowhere").header("X-Request-Id", "a\" <b>{}");
    let answer = house.send(evil).await.expect("the house answers");
    assert_ne!(answer.header("x-request-id"), "a\" <b>{}");
    house.close().await;
}

async fn a_house_that_was_held_still_is_ready_again_soon(mode: Mode) {
    let house = House::open(mode).await;
    house.freeze();
    tokio::time::sleep(scenarios::house::LEASE_IS_OVER * 2).await;
    house.thaw();
    house.until_ready().await;
    let run = house.run(QUICK, json!({})).await;
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_worker_is_not_ready_while_a_loop_of_its_own_does_not_turn(mode: Mode) {
    let house = House::open(mode).await;
    house.until_ready().await;
    let locked = house.lock(&["worker_sessions", "workflow_runs", "schedules", "outbox"]);
    // Who reads a SQLite database waits for nobody.
    let stalled: &[&str] = match mode {
        Mode::Embedded => &["session"],
        Mode::Fleet => &["progress", "relay", "session", "sweep"],
    };
    until_named(&house, stalled).await;
    drop(locked);
    house.until_ready().await;
    let run = house.run(QUICK, json!({})).await;
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_worker_is_not_ready_while_it_cannot_see_to_schedules(mode: Mode) {
    let house = House::open(mode).await;
    house.push(QUICK).await;
    let schedule = json!({"name": "nightly", "workflow": "quick", "cron": "30 2 * * *"});
    house.post("/v1/schedules", &schedule).await.ok();
    house.until_ready().await;
    // Who reads a SQLite database waits for nobody, and who writes there waits for everybody.
    if mode == Mode::Fleet {
        let locked = house.lock(&["workflows"]);
        house.post("/v1/schedules/nightly/trigger", &json!({})).await.ok();
        until_named(&house, &["schedules"]).await;
        drop(locked);
    } else {
        house.post("/v1/schedules/nightly/trigger", &json!({})).await.ok();
    }
    house.until_ready().await;
    let run = eventually("the run of the schedule", async || house.all_runs().await.pop()).await;
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn nobody_is_ready_on_a_full_disk_and_everybody_once_there_is_room(mode: Mode) {
    let house = House::open(mode).await;
    house.push(QUICK).await;
    let before = house.run(QUICK, json!({})).await;
    house.wait_for(&before, "completed").await;
    house.until_ready().await;
    house.processes().iter().for_each(|process| process.limit_files(Some(4_096)));
    // Nobody writes, and nobody knows: it is the first write that finds out.
    let refused = house.post("/v1/workflow-runs", &json!({"workflow": "quick"})).await;
    assert!(!refused.header("retry-after").is_empty(), "{refused}");
    refused.refused(503, "store_unavailable");
    until_named(&house, &["session"]).await;
    assert_eq!(house.get(&format!("/v1/workflow-runs/{before}")).await.ok()["status"], "completed");
    house.processes().iter().for_each(|process| process.limit_files(None));
    house.until_ready().await;
    assert_eq!(house.all_runs().await, [before], "what was refused was not written");
    let after = house.run(QUICK, json!({})).await;
    house.wait_for(&after, "completed").await;
    house.close().await;
}

/// Each worker says that these of its loops stand still, and no other.
async fn until_named(house: &House, stalled: &[&str]) {
    for worker in house.workers() {
        eventually(&format!("{} to name all that stands still", worker.name()), || async {
            let ready = worker.get("/readyz").await;
            (ready.status == 503 && failing(&ready) == stalled).then_some(())
        })
        .await;
    }
}

/// The loops that an answer of a process names that is not ready. Its question whether the database is there may wait for a
/// lock, too, or not.
fn failing(answer: &Answer) -> Vec<String> {
    let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
    let named = errors.iter().filter_map(|fault| Some(fault["parameter"].as_str()?.to_owned()));
    named.filter(|name| name != "store").collect()
}

async fn the_log_of_the_server_has_one_line_per_record(mode: Mode) {
    let house = House::open_with(mode, &[("WINDLASS_LOG", "debug"), ("WINDLASS_LOG_FORMAT", "json")]).await;
    let odd = "\u{1b}[31mred\u{1b}[0m\nforged: line\r\n%s%n";
    let spec = json!({"version": 1, "name": "odd", "type": "steps", "on_error": "fail", "steps": [
        {"id": "a", "type": "script", "command": ["/bin/sh", "-c", "printf '%s' \"$1\" >&2; exit 3", "sh", odd]}
    ]});
    let run = house.post("/v1/workflow-runs", &json!({"spec": spec, "labels": {"a": "b"}})).await.ok();
    house.wait_for(&scenarios::client::id_of(&run), "failed").await;
    for path in ["/v1/%1b%5b31m", "/v1/workflow-runs?label=%0aforged:line", "/v1/workflows/a%0d%0ab"] {
        house.get(path).await;
    }
    for log in house.processes().iter().map(Process::log) {
        assert!(!log.is_empty());
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "not one record: {line:?}");
            assert!(!line.contains('\u{1b}'), "a terminal would obey this: {line:?}");
        }
    }
    house.close().await;
}
