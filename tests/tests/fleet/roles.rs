//! What each kind of process needs, does, and tells.

use std::time::{Duration, Instant};

use reqwest::Method;
use scenarios::house::Plan;
use scenarios::{House, Mode};
use serde_json::json;

use crate::{NOOP, slow, taken_lost_done};

/// Shorter than the two seconds after which a wait looks by itself: what comes within came by the hot wire.
const PROMPT: Duration = Duration::from_millis(1_500);
/// A poked worker cancels a step at once; nobody waits for the step to end.
const CANCELED_WITHIN: Duration = Duration::from_secs(10);

/// Starts a run and waits for its answer, which comes when the run has ended.
pub(crate) async fn create_and_wait(house: &House) {
    let body = json!({"spec": scenarios::definition::parse(NOOP)});
    let request = house.request(Method::POST, "/v1/workflow-runs").header("Prefer", "wait=20").json(&body);
    let run = house.send(request).await.expect("the house answers").ok();
    assert_eq!(run["status"], "completed", "{run:#}");
}

/// # Panics
/// Unless most of a few runs end so soon that they were not found by looking: a busy machine may make some late.
pub(crate) async fn assert_news_are_prompt(house: &House) {
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        create_and_wait(house).await;
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[2] < PROMPT, "{took:?}");
}

#[tokio::test]
async fn a_fleet_begins_with_a_schema_and_both_its_servers() {
    let mut house = Plan::of(Mode::Fleet).without_schema().apis(0).workers(0).open().await;
    for role in ["api", "worker"] {
        let said = house.ask(&[role]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.text.contains("run `windlass migrate`"), "{said:?}");
        for (variable, value) in [("WINDLASS_REDIS_URL", ""), ("WINDLASS_DATABASE_URL", "sqlite://x.db")] {
            let output = house.windlass(&[role]).env(variable, value).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{output:?}");
        }
    }
    let said = house.ask(&["dev"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    for _ in 0..2 {
        let said = house.ask(&["migrate"]).succeeded();
        assert!(said.contains("is up to date"), "{said}");
    }
    let (api, worker) = (house.add_api(&[]).await, house.add_worker(&[]).await);
    for process in [&api, &worker] {
        process.until_ready().await;
        house.ask(&["healthcheck", "--server", &process.address()]).succeeded();
        let metrics = process.get("/metrics").await.text;
        assert!(metrics.contains("windlass_redis_connected 1"), "{metrics}");
    }
    assert_eq!(worker.get("/v1/workflow-runs").await.status, 404);
    house.close().await;
}

#[tokio::test]
async fn runs_are_moved_promptly_and_taken_over_from_a_worker_that_was_killed() {
    let house = House::open(Mode::Fleet).await;
    house.until_ready().await;
    assert_news_are_prompt(&house).await;

    // A held run is told by a poke.
    let run = house.run(&slow(60), json!({})).await;
    house.wait_for_step(&run, "slow", "running").await;
    let began = Instant::now();
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    assert!(began.elapsed() < CANCELED_WITHIN, "{:?}", began.elapsed());

    let run = house.run(&slow(2), json!({})).await;
    house.wait_for_step(&run, "slow", "running").await;
    house.holder_of(&run).await.kill().await;
    house.wait_for(&run, "completed").await;
    assert_eq!(taken_lost_done(&house, &run).await, [2, 1, 1]);

    // Asked to end, the other lets its step finish.
    let run = house.run(&slow(1), json!({})).await;
    house.wait_for_step(&run, "slow", "running").await;
    assert_eq!(house.holder_of(&run).await.stop().await, Some(0));
    assert_eq!(house.events(&run).await.count("step.succeeded"), 1);
    house.close().await;
}

#[tokio::test]
async fn a_gate_that_one_api_opens_is_decided_at_another() {
    let house = House::open(Mode::Fleet).await;
    let [one, other] = &house.apis()[..] else { panic!("there are two") };
    let yaml = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval, approvers: { any_of: ['user:ada'] } } ] }";
    let run = one.run(yaml, json!({})).await;
    other.as_user("ada", &[]).approve(&run, "ok").await.ok();
    one.wait_for(&run, "completed").await;
    house.close().await;
}
