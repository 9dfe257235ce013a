//! Health, version, request ids.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;
use windlass_api::DoorOptions;

use crate::house::{House, RUNS, request, with_header};
use crate::slow::SlowStore;

#[tokio::test]
async fn a_process_lives_is_ready_and_says_what_it_is() {
    let house = House::new();
    let _beat = house.health.register("sweep", Duration::from_secs(60));
    assert_eq!(house.get("/healthz").await.ok(), json!({"status": "ok"}));
    assert_eq!(house.get("/readyz").await.ok(), json!({"status": "ready", "checked": ["store", "sweep"]}));
    assert_eq!(house.get("/version").await.ok()["name"], "windlass");
    house.get("/metrics").await.refused(404, "not_found");
}

#[tokio::test]
async fn readiness_names_what_fails() {
    let house = House::new();
    let _beat = house.health.register("relay", Duration::ZERO);
    std::thread::sleep(Duration::from_millis(2));
    house.store.faults().fail_next(1);
    let answer = house.get("/readyz").await;
    assert_eq!(answer.header("retry-after"), "1");
    let problem = answer.refused(503, "not_ready");
    let failing: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|it| &it["parameter"]).collect();
    assert_eq!(failing, ["store", "relay"]);
    house.get("/healthz").await.ok();
}

#[tokio::test(start_paused = true)]
async fn a_silent_database_makes_the_process_not_ready_within_two_seconds() {
    let store = SlowStore::new();
    let house = House::over(store.inner.clone(), store.clone(), DoorOptions::default());
    store.takes(Duration::from_secs(3600));
    let began = tokio::time::Instant::now();
    house.get("/readyz").await.refused(503, "not_ready");
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn metrics_count_runs_and_requests() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let options = DoorOptions { metrics: Some(recorder.handle()), ..DoorOptions::default() };
    let house = House::with(options);
    let _guard = metrics::set_default_local_recorder(&recorder);
    house.start(&crate::house::quick("m")).await;
    house.get("/nowhere").await;
    let text = house.get("/metrics").await.text;
    for line in [
        "runs{status=\"queued\"} 1",
        "http_requests_total{method=\"POST\",route=\"/v1/workflow-runs\",status=\"201\"} 1",
        "http_requests_total{method=\"GET\",route=\"unknown\",status=\"404\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_own_id_when_that_is_plain() {
    let house = House::new();
    let with_id =
        async |id: &str| house.send(with_header(request(Method::GET, RUNS), "x-request-id", id)).await;
    assert_eq!(with_id("order-7.retry_2").await.header("x-request-id"), "order-7.retry_2");
    for odd in ["", "a b", "[31mred", "ü", &"x".repeat(65)] {
        assert_eq!(with_id(odd).await.header("x-request-id").len(), 36, "{odd}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_told_and_nothing_is_revealed() {
    let house = House::new();
    for path in [RUNS, "/v1/workflows", "/v1/approvals"] {
        house.store.faults().fail_next(1);
        let answer = house.get(path).await;
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!answer.text.contains("a test took"), "{}", answer.text);
        answer.refused(503, "store_unavailable");
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_takes_longer_than_ten_seconds() {
    let store = SlowStore::new();
    let house = House::over(store.inner.clone(), store.clone(), DoorOptions::default());
    let run = house.start(&crate::house::gate("g")).await;
    store.takes(Duration::from_secs(3600));
    for path in [
        RUNS.to_owned(),
        format!("{RUNS}/{run}"),
        format!("{RUNS}/{run}?wait=30s"),
        format!("{RUNS}/{run}/events"),
    ] {
        let began = tokio::time::Instant::now();
        house.get(&path).await.refused(503, "store_unavailable");
        assert_eq!(began.elapsed().as_secs(), 10, "{path}");
    }
    let began = tokio::time::Instant::now();
    house.command(&run, "cancel", json!({})).await.refused(503, "store_unavailable");
    assert_eq!(began.elapsed().as_secs(), 10);
}
