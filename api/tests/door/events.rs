//! The log: page by page, and live.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use futures::StreamExt;
use serde_json::{Value, json};
use windlass_api::DoorOptions;
use windlass_bus::Bus;

use crate::house::{House, NOBODY, RUNS, gate, quick, request, steps, with_header};

/// An open event stream, read frame by frame.
struct Stream {
    chunks: axum::body::BodyDataStream,
    text: String,
}

fn ask(path: &str, last_event_id: Option<&str>) -> Request<Body> {
    let request = with_header(request(Method::GET, path), "accept", "text/event-stream");
    match last_event_id {
        Some(id) => with_header(request, "last-event-id", id),
        None => request,
    }
}

async fn watch(house: &House, path: &str, last_event_id: Option<&str>) -> Stream {
    let response = house.open(ask(path, last_event_id)).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("content-type"), header("cache-control")),
        ("text/event-stream".into(), "no-store".into())
    );
    assert_eq!(header("x-accel-buffering"), "no");
    Stream { chunks: response.into_body().into_data_stream(), text: String::new() }
}

impl Stream {
    async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(frame);
            }
            self.text.push_str(std::str::from_utf8(&self.chunks.next().await?.unwrap()).unwrap());
        }
    }

    /// Ids and envelopes of everything up to the end.
    async fn rest(&mut self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(frame) = self.frame().await {
            events.extend(event_of(&frame));
        }
        events
    }

    async fn event(&mut self) -> (String, Value) {
        loop {
            if let Some(event) = event_of(&self.frame().await.expect("the stream goes on")) {
                return event;
            }
        }
    }
}

fn event_of(frame: &str) -> Option<(String, Value)> {
    let (id, data) = frame.strip_prefix("id: ")?.split_once("\ndata: ")?;
    Some((id.to_owned(), serde_json::from_str(data).unwrap()))
}

async fn log(house: &House, run: &str) -> Vec<Value> {
    let page = house.get(&format!("{RUNS}/{run}/events?limit=200")).await.ok();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_log_is_read_page_by_page() {
    let house = House::new();
    let run = house.run(&quick("q")).await;
    let whole = log(&house, &run).await;
    let types: Vec<_> = whole.iter().map(|it| it["event"]["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["run.created", "run.engine_taken", "step.started", "step.succeeded", "run.completed"]);
    let mut seen = Vec::new();
    let mut after = json!(0);
    while !after.is_null() {
        let page = house.get(&format!("{RUNS}/{run}/events?after={after}&limit=2")).await.ok();
        seen.extend(page["items"].as_array().unwrap().clone());
        after = page["next_after"].clone();
    }
    assert_eq!(seen, whole);
    assert_eq!(whole[2]["event"]["idempotency_key"], format!("{run}/a/1"));
}

#[tokio::test]
async fn a_stream_replays_goes_on_live_and_ends_with_the_run() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let path = format!("{RUNS}/{run}/events");
    let mut from_the_start = watch(&house, &path, None).await;
    assert_eq!(from_the_start.frame().await.unwrap(), "retry: 2000");
    let so_far = log(&house, &run).await.len();
    let mut from_here = watch(&house, &path, Some(&so_far.to_string())).await;
    let mut by_query = watch(&house, &format!("{path}?after={so_far}"), None).await;
    house.command(&run, "approve", json!({"node": "ok"})).await.ok();
    house.drive(&run).await;
    let whole = log(&house, &run).await;
    for (stream, expected) in [
        (&mut from_the_start, &whole[..]),
        (&mut from_here, &whole[so_far..]),
        (&mut by_query, &whole[so_far..]),
    ] {
        let seen = stream.rest().await;
        assert!(seen.iter().all(|(id, envelope)| envelope["seq"] == id.parse::<u64>().unwrap()));
        assert_eq!(seen.into_iter().map(|(_, envelope)| envelope).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn who_comes_back_after_the_end_is_told_so() {
    let house = House::new();
    let run = house.run(&quick("q")).await;
    let path = format!("{RUNS}/{run}/events");
    assert_eq!(house.send(ask(&path, Some("5"))).await.status, 204);
    assert_eq!(house.send(ask(&format!("{path}?after=5"), None)).await.status, 204);
    assert_eq!(house.get(&format!("{path}?after=5")).await.ok(), json!({"items": [], "next_after": null}));
    let mut rest = watch(&house, &path, Some("4")).await;
    assert_eq!(rest.rest().await.len(), 1);
}

#[tokio::test]
async fn a_position_that_is_none_is_refused() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let path = format!("{RUNS}/{run}/events");
    for id in ["abc", "-1", "1.5", "18446744073709551616", "4294967296", "", "1'", " 1"] {
        house.send(ask(&path, Some(id))).await.refused(400, "invalid_cursor");
    }
    house.send(ask(&path, Some("999"))).await.refused(400, "event_id_ahead");
    house.get(&format!("{path}?after=abc")).await.refused(400, "invalid_cursor");
    house.send(ask(&format!("{RUNS}/{NOBODY}/events"), None)).await.refused(404, "not_found");
}

#[tokio::test]
async fn progress_travels_along_without_an_id() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let mut stream = watch(&house, &format!("{RUNS}/{run}/events"), None).await;
    for _ in 0..log(&house, &run).await.len() {
        stream.event().await;
    }
    let progress =
        json!({"type": "run.progress", "run_id": run, "node": "ok", "progress": {"line": "almost"}});
    house.bus.publish_progress(run.parse().unwrap(), progress.clone());
    let frame = stream.frame().await.unwrap();
    assert_eq!(frame, format!("data: {progress}"));
}

#[tokio::test(start_paused = true)]
async fn news_that_got_lost_is_read_from_the_log() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let so_far = log(&house, &run).await.len();
    let mut stream = watch(&house, &format!("{RUNS}/{run}/events"), Some(&so_far.to_string())).await;
    stream.frame().await;
    // Somebody writes whose news never comes: first a gap shows it, then silence.
    let other = House::over(house.store.clone(), house.store.clone(), DoorOptions::default());
    other.command(&run, "pause", json!({})).await.ok();
    house.command(&run, "resume", json!({})).await.ok();
    assert_eq!(stream.event().await.1["event"]["type"], "run.paused");
    assert_eq!(stream.event().await.1["event"]["type"], "run.resumed");
    other.command(&run, "pause", json!({})).await.ok();
    assert_eq!(stream.event().await.1["event"]["type"], "run.paused");
}

#[tokio::test]
async fn a_watcher_that_lags_behind_misses_nothing() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let path = format!("{RUNS}/{run}/events");
    let mut stream = watch(&house, &path, None).await;
    stream.event().await;
    // More news than the bus keeps for anyone.
    for _ in 0..1_500 {
        house.bus.publish_progress(run.parse().unwrap(), json!({"type": "run.progress"}));
    }
    for _ in 0..3 {
        house.command(&run, "pause", json!({})).await.ok();
        house.command(&run, "resume", json!({})).await.ok();
    }
    house.command(&run, "cancel", json!({})).await.ok();
    house.drive(&run).await;
    let seqs: Vec<String> = stream.rest().await.into_iter().map(|(id, _)| id).collect();
    let expected: Vec<String> = (2..=log(&house, &run).await.len()).map(|seq| seq.to_string()).collect();
    assert_eq!(seqs, expected);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_has_a_heartbeat() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let so_far = log(&house, &run).await.len().to_string();
    let mut stream = watch(&house, &format!("{RUNS}/{run}/events"), Some(&so_far)).await;
    stream.frame().await;
    let began = tokio::time::Instant::now();
    for n in 1..=3 {
        assert_eq!(stream.frame().await.unwrap(), ": heartbeat");
        assert_eq!(began.elapsed(), Duration::from_secs(15 * n));
    }
}

#[tokio::test]
async fn a_process_holds_so_many_streams_and_no_more() {
    let house = House::with(DoorOptions { streams_max: 2, ..DoorOptions::default() });
    let run = house.run(&gate("ask")).await;
    let path = format!("{RUNS}/{run}/events");
    let first = watch(&house, &path, None).await;
    let _second = watch(&house, &path, None).await;
    let refused = house.send(ask(&path, None)).await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.refused(429, "stream_limit");
    house.get(&path).await.ok();
    drop(first);
    watch(&house, &path, None).await;
}

#[tokio::test]
async fn one_connection_watches_many_runs_and_goes_on_where_it_broke() {
    let house = House::new();
    let (a, b) = (house.run(&gate("a")).await, house.run(&gate("b")).await);
    let ended = house.run(&quick("c")).await;
    let path = format!("/v1/events?run={a}&run={b}&run={ended}");
    let mut stream = watch(&house, &path, None).await;
    let mut last = String::new();
    for _ in 0..7 {
        last = stream.event().await.0;
    }
    drop(stream);
    let mut again = watch(&house, &path, Some(&last)).await;
    for run in [&a, &b] {
        house.command(run, "cancel", json!({})).await.ok();
        house.drive(run).await;
    }
    let rest = again.rest().await;
    let mut total = 7;
    for (_, envelope) in &rest {
        assert!([&a, &b, &ended].iter().any(|run| envelope["run_id"] == **run));
        total += 1;
    }
    let mut logged = 0;
    let mut seen: Vec<_> = last.split('.').map(|it| it.parse::<usize>().unwrap()).collect();
    for (place, run) in [&a, &b, &ended].into_iter().enumerate() {
        logged += log(&house, run).await.len();
        for (_, envelope) in rest.iter().filter(|(_, it)| it["run_id"] == **run) {
            seen[place] += 1;
            assert_eq!(envelope["seq"], seen[place], "each once, in order");
        }
    }
    assert_eq!(total, logged);
    let end = rest.last().unwrap().0.clone();
    assert_eq!(house.send(ask(&path, Some(&end))).await.status, 204);

    house.send(ask(&path, Some("1.2"))).await.refused(400, "invalid_cursor");
    house.send(ask(&path, Some("1.2.x"))).await.refused(400, "invalid_cursor");
    house.get("/v1/events").await.refused(422, "invalid_parameter");
    house.get("/v1/events?run=abc").await.refused(422, "invalid_parameter");
    house.get(&format!("/v1/events?run={a}&run={NOBODY}")).await.refused(404, "not_found");
    let many = format!("run={a}&").repeat(101);
    house.get(&format!("/v1/events?{many}")).await.refused(422, "invalid_parameter");
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_a_database_that_is_away_for_a_while() {
    let house = House::new();
    let run =
        house.run(&steps("s", json!([{"id": "a", "type": "noop"}, {"id": "ok", "type": "approval"}]))).await;
    let mut stream = watch(&house, &format!("{RUNS}/{run}/events"), None).await;
    house.store.faults().fail_next(5);
    assert_eq!(stream.event().await.0, "1");
}
