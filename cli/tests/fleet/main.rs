//! The roles of a fleet, as the built program plays them on a PostgreSQL and a Redis of their own.

mod town;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use town::{House, Town};

/// Shorter than the two seconds after which a wait looks by itself: what comes within came by the hot wire.
const PROMPT: Duration = Duration::from_millis(1_500);

fn noop() -> Value {
    json!([{"id": "a", "type": "noop"}])
}

/// A step that takes this long, and may be repeated.
fn slow(seconds: &str) -> Value {
    json!([{"id": "slow", "type": "script", "command": ["sleep", seconds], "retry_safe": true}])
}

#[tokio::test]
async fn a_fleet_begins_with_a_schema_and_both_its_servers() {
    let town = Town::build();
    for role in ["api", "worker"] {
        let (code, said) = town.ask(&[role]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("run `windlass migrate`"), "{said}");
        for (variable, value) in [("WINDLASS_REDIS_URL", ""), ("WINDLASS_DATABASE_URL", "sqlite://x.db")] {
            let output = town.windlass(&[role]).env(variable, value).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{output:?}");
        }
    }
    let (code, said) = town.ask(&["dev"]);
    assert_eq!(code, Some(2), "{said}");
    for _ in 0..2 {
        let (code, said) = town.ask(&["migrate"]);
        assert!(code == Some(0) && said.contains("is up to date"), "{said}");
    }
    let (api, worker) = (town.start("api", "api").await, town.start("worker", "worker").await);
    for house in [&api, &worker] {
        town.until_ready(house, true).await;
        let (code, said) = town.ask(&["healthcheck", "--server", house.url()]);
        assert_eq!(code, Some(0), "{said}");
        let metrics =
            town.request(house, Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        assert!(metrics.contains("windlass_redis_connected 1"), "{metrics}");
    }
    assert_eq!(town.request(&worker, Method::GET, "/v1/workflow-runs").send().await.unwrap().status(), 404);
    assert_eq!((api.stop().await, worker.stop().await), (Some(0), Some(0)));
}

#[tokio::test]
async fn runs_are_moved_promptly_and_taken_over_from_a_worker_that_was_killed() {
    let town = Town::build();
    assert_eq!(town.ask(&["migrate"]).0, Some(0));
    let api = town.start("api", "api").await;
    let mut workers = vec![town.start("worker", "one").await, town.start("worker", "two").await];
    town.until_ready(&api, true).await;

    let began = Instant::now();
    let run = town.create_and_wait(&api, noop(), 10).await;
    assert_eq!(run["status"], "completed");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());

    let gate = json!([{"id": "ok", "type": "approval", "approvers": {"any_of": ["user:ada"]}}]);
    let run = town.create(&api, gate).await;
    town.until(&api, &run, "waiting").await;
    let approve = format!("/v1/workflow-runs/{run}/approve");
    let answer =
        town.request(&api, Method::POST, &approve).json(&json!({"node": "ok"})).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    town.until(&api, &run, "completed").await;

    // A held run is told by a poke: nobody waits for the step to end.
    let run = town.create(&api, slow("30")).await;
    until_started(&town, &api, &run).await;
    let began = Instant::now();
    let cancel = format!("/v1/workflow-runs/{run}/cancel");
    let answer = town.request(&api, Method::POST, &cancel).json(&json!({})).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    town.until(&api, &run, "canceled").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let run = town.create(&api, slow("2")).await;
    until_started(&town, &api, &run).await;
    let holder = holder_of(&town, &api, &run, &workers).await;
    workers.remove(holder).kill();
    town.until(&api, &run, "completed").await;
    assert_eq!(taken_lost_done(&town, &api, &run).await, [2, 1, 1]);

    // Asked to end, the other lets its step finish.
    let run = town.create(&api, slow("1")).await;
    until_started(&town, &api, &run).await;
    assert_eq!(workers.remove(0).stop().await, Some(0));
    let kinds = town.events(&api, &run).await;
    assert!(kinds.iter().any(|it| it["event"]["type"] == "step.succeeded"), "{kinds:?}");
    assert_eq!(api.stop().await, Some(0));
    let (code, said) = town.ask(&["doctor"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_worker_that_was_frozen_past_its_lease_writes_nothing_and_takes_new_work() {
    let town = Town::build();
    assert_eq!(town.ask(&["migrate"]).0, Some(0));
    let api = town.start("api", "api").await;
    let mut workers = vec![town.start("worker", "one").await, town.start("worker", "two").await];
    let run = town.create(&api, slow("1")).await;
    until_started(&town, &api, &run).await;
    let frozen = workers.remove(holder_of(&town, &api, &run, &workers).await);
    frozen.freeze();
    // Its step ends while it is frozen, and again at the other worker.
    town.until(&api, &run, "completed").await;
    let before = town.events(&api, &run).await;
    frozen.thaw();
    workers.remove(0).kill();
    let later = town.create(&api, noop()).await;
    town.until(&api, &later, "completed").await;
    town.until_ready(&frozen, true).await;
    assert_eq!(town.events(&api, &run).await, before);
    assert_eq!(taken_lost_done(&town, &api, &run).await, [2, 1, 1]);
    assert_eq!((api.stop().await, frozen.stop().await), (Some(0), Some(0)));
    let (code, said) = town.ask(&["doctor"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn everything_goes_on_without_redis_and_comes_back_after_postgresql() {
    let mut town = Town::build();
    assert_eq!(town.ask(&["migrate"]).0, Some(0));
    let (api, worker) = (town.start("api", "api").await, town.start("worker", "worker").await);
    town.until_ready(&worker, true).await;

    town.redis.kill();
    let run = town.create_and_wait(&api, noop(), 20).await;
    assert_eq!(run["status"], "completed", "slower, but not stopped");
    town.until_ready(&worker, true).await;
    town.redis.start_again();

    town.postgres.stop();
    let began = Instant::now();
    for (method, path) in [(Method::GET, "/v1/workflow-runs"), (Method::POST, "/v1/workflow-runs")] {
        let body = json!({"spec": {"version": 1, "name": "it", "type": "steps", "steps": noop()}});
        let answer = town.request(&api, method, path).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{path}");
        assert!(answer.headers().contains_key("retry-after"));
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for house in [&api, &worker] {
        town.until_ready(house, false).await;
    }
    town.postgres.start_again();
    for house in [&api, &worker] {
        town.until_ready(house, true).await;
    }
    let run = town.create_and_wait(&api, noop(), 20).await;
    assert_eq!(run["status"], "completed");
    // By now Redis has been found again, and news are prompt.
    let began = Instant::now();
    let run = town.create_and_wait(&api, noop(), 20).await;
    assert_eq!(run["status"], "completed");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    assert_eq!((api.stop().await, worker.stop().await), (Some(0), Some(0)));
}

/// Runs that a client insists on, whatever happens meanwhile.
const INSISTED: usize = 150;

#[tokio::test]
async fn every_run_that_was_asked_for_ends_once_although_every_process_dies_in_turn() {
    let mut town = Town::build();
    assert_eq!(town.ask(&["migrate"]).0, Some(0));
    let mut apis = vec![town.start("api", "api-1").await, town.start("api", "api-2").await];
    let mut workers = vec![town.start("worker", "one").await, town.start("worker", "two").await];
    let addresses: Vec<String> = apis.iter().map(|api| api.url().to_owned()).collect();
    let clients = tokio::spawn(insist(town.client(), addresses.clone()));
    let pause = || tokio::time::sleep(Duration::from_millis(700));

    pause().await;
    workers.remove(0).kill();
    workers.push(town.start("worker", "three").await);
    pause().await;
    town.redis.kill();
    pause().await;
    town.redis.start_again();
    apis.remove(0).kill();
    pause().await;
    town.postgres.kill();
    pause().await;
    town.postgres.start_again();
    let port = addresses[0].rsplit_once(':').unwrap().1;
    apis.push(town.start_at(port, "api-3").await);
    town.redis.flush();
    workers.remove(0).kill();
    workers.push(town.start("worker", "four").await);

    let ids = tokio::time::timeout(town::PATIENCE * 2, clients).await.expect("clients get there").unwrap();
    for id in &ids {
        town.until(&apis[0], id, "completed").await;
    }
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), INSISTED, "each key made one run");
    for house in apis.into_iter().chain(workers) {
        assert_eq!(house.stop().await, Some(0));
    }
    let (code, said) = town.ask(&["doctor"]);
    assert!(code == Some(0) && said.contains(&format!("{INSISTED} runs")), "{said}");
}

/// Asks for runs, one after the other, each with a key of its own, until somebody says yes.
async fn insist(http: reqwest::Client, addresses: Vec<String>) -> Vec<String> {
    let steps = json!([
        {"id": "a", "type": "transform", "output": 1},
        {"id": "b", "type": "noop"},
        {"id": "c", "type": "transform", "output": "${{ nodes.a.output + 1 }}"},
    ]);
    let body = json!({"spec": {"version": 1, "name": "it", "type": "steps", "steps": steps}});
    let mut ids = Vec::new();
    for n in 0..INSISTED {
        for attempt in 0.. {
            let url = format!("{}/v1/workflow-runs", addresses[(n + attempt) % addresses.len()]);
            let request = http.post(url).header("Idempotency-Key", format!("run-{n}")).json(&body);
            match request.send().await {
                Ok(answer) if answer.status() == 201 => {
                    let run: Value = answer.json().await.unwrap();
                    ids.push(run["id"].as_str().unwrap().to_owned());
                    break;
                }
                Ok(answer) => assert_eq!(answer.status(), 503, "{}", answer.text().await.unwrap()),
                Err(error) => assert!(!error.is_builder(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ids
}

/// Which of these workers took the run first.
async fn holder_of(town: &Town, api: &House, run: &str, workers: &[House]) -> usize {
    let session = town.events(api, run).await[1]["event"]["session"].as_str().unwrap().to_owned();
    workers.iter().position(|worker| worker.said().contains(&session)).expect("one of ours")
}

/// How often the run was taken, lost a step, and got one done.
async fn taken_lost_done(town: &Town, api: &House, run: &str) -> [usize; 3] {
    let events = town.events(api, run).await;
    ["run.engine_taken", "step.lost", "step.succeeded"]
        .map(|kind| events.iter().filter(|it| it["event"]["type"] == kind).count())
}

async fn until_started(town: &Town, api: &House, run: &str) {
    let began = Instant::now();
    while !town.events(api, run).await.iter().any(|it| it["event"]["type"] == "step.started") {
        assert!(began.elapsed() < town::PATIENCE, "the step is never started");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
