//! The servers that a fleet stands on go away, and come back.

use std::time::{Duration, Instant};

use reqwest::Method;
use scenarios::house::Plan;
use scenarios::{House, Mode, Process, eventually, tell};
use serde_json::json;

/// Nobody waits longer for an answer while the database is away.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Shorter than the two seconds after which a wait looks by itself: what comes within came by the hot wire.
const PROMPT: Duration = Duration::from_millis(1_500);
const REDIS_STALLS: Duration = Duration::from_secs(5);

const NOOP: &str = "{ version: 1, name: noop, type: steps, steps: [ { id: a, type: noop } ] }";

const DEED: &str =
    "{ version: 1, name: deed, type: steps, steps: [ { id: a, type: script, run: 'sleep 12' } ] }";

async fn a_run_completes(house: &House) {
    let run = house.run(NOOP, json!({})).await;
    house.wait_for(&run, "completed").await;
}

/// Until news are as prompt as before.
async fn until_prompt(house: &House) {
    let body = json!({"spec": scenarios::definition::parse(NOOP)});
    eventually("a run to be told of promptly", || async {
        let began = Instant::now();
        let request = house.request(Method::POST, "/v1/workflow-runs").header("Prefer", "wait=20");
        let run = house.send(request.json(&body)).await.expect("the house answers").ok();
        assert_eq!(run["status"], "completed");
        (began.elapsed() < PROMPT).then_some(())
    })
    .await;
}

/// Every request is told that the database is away, and when to come again.
async fn sends_everyone_away(api: &Process) {
    let body = json!({"workflow": "noop", "inputs": {}});
    for (method, path) in [
        (Method::GET, "/v1/workflow-runs"),
        (Method::POST, "/v1/workflow-runs"),
        (Method::GET, "/v1/workflows/noop"),
        (Method::GET, "/readyz"),
    ] {
        let began = Instant::now();
        let answer = api.send(api.request(method, path).json(&body)).await.expect("it answers");
        assert_eq!(answer.status, 503, "{answer}");
        assert!(path == "/readyz" || !answer.header("retry-after").is_empty(), "{answer}");
        let took = began.elapsed();
        eprintln!("{path} was refused after {took:?}");
        assert!(took < ANSWER_MAX);
    }
}

async fn postgres_restarts_three_times() {
    let mut house = Plan::of(Mode::Fleet).own_postgres().open().await;
    house.push(NOOP).await;
    until_prompt(&house).await;
    for _ in 0..3 {
        house.postgres().stop();
        for api in house.apis() {
            sends_everyone_away(&api).await;
        }
        for process in house.processes() {
            process.until_unready().await;
        }
        house.postgres().start_again();
    }
    house.until_ready().await;
    until_prompt(&house).await;
    house.close().await;
}

/// Each is under way when the database goes, and may not be done twice.
async fn deeds_outlast_an_outage() {
    let mut house = Plan::of(Mode::Fleet).own_postgres().workers(3).open().await;
    house.push(DEED).await;
    house.until_ready().await;
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(house.run(DEED, json!({})).await);
    }
    for run in &runs {
        house.wait_for_step(run, "a", "running").await;
    }
    house.postgres().stop();
    // Longer than any lease.
    tokio::time::sleep(scenarios::house::LEASE_IS_OVER * 2).await;
    house.postgres().start_again();
    for run in &runs {
        house.wait_for(run, "completed").await;
    }
    house.close().await;
}

async fn postgres_stands_still() {
    let mut house = Plan::of(Mode::Fleet).own_postgres().open().await;
    house.push(NOOP).await;
    until_prompt(&house).await;
    house.postgres().freeze();
    for api in house.apis() {
        sends_everyone_away(&api).await;
    }
    house.postgres().thaw();
    house.until_ready().await;
    until_prompt(&house).await;
    house.close().await;
}

async fn redis_is_flushed_killed_and_stalled() {
    let mut house = Plan::of(Mode::Fleet).open().await;
    until_prompt(&house).await;
    house.redis().flush();
    a_run_completes(&house).await;
    house.redis().kill();
    // Nobody has anything to send, and everybody notices.
    for process in house.processes() {
        eventually("the alert for a Redis that is away", || async {
            let metrics = process.get("/metrics").await.text;
            metrics.contains("windlass_redis_connected 0").then_some(())
        })
        .await;
        assert!(process.log().contains("Redis is away"), "{}", process.name());
    }
    a_run_completes(&house).await;
    house.until_ready().await;
    house.redis().start_again();
    until_prompt(&house).await;
    house.redis().freeze();
    let stalled = Instant::now();
    while stalled.elapsed() < REDIS_STALLS {
        a_run_completes(&house).await;
    }
    house.until_ready().await;
    house.redis().thaw();
    until_prompt(&house).await;
    house.close().await;
}

#[test]
fn after_three_restarts_of_postgresql_every_loop_turns_and_meanwhile_nobody_is_kept_waiting() {
    tell(postgres_restarts_three_times());
}

#[test]
fn what_is_under_way_outlasts_an_outage_that_is_longer_than_every_lease() {
    tell(deeds_outlast_an_outage());
}

#[test]
fn nobody_is_kept_waiting_by_a_postgresql_that_stands_still() {
    tell(postgres_stands_still());
}

#[test]
fn redis_flushed_killed_or_stalled_costs_time_and_nothing_else() {
    tell(redis_is_flushed_killed_and_stalled());
}
