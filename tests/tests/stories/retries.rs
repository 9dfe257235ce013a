//! Steps that are tried again.

use std::time::Duration;

use jiff::SignedDuration;
use scenarios::{House, Log, Mode, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_flaky_call_is_tried_again_until_it_works,
    pauses_between_attempts_grow_as_the_definition_says,
    full_jitter_stays_within_its_bounds,
    only_the_errors_that_are_named_are_worth_another_attempt,
    an_exhausted_step_pauses_and_a_person_gives_it_a_new_budget,
    a_person_need_not_wait_for_the_next_attempt,
    a_retry_that_is_due_later_survives_a_kill,
);

/// How late a busy machine may be.
const LATE: SignedDuration = SignedDuration::from_secs(5);

fn flaky(retry: &str) -> String {
    format!(
        "{{ version: 1, name: flaky, type: steps, steps: [ {{ id: call, type: http, \
         with: {{ method: POST, url: '${{{{ inputs.sink }}}}/call' }}, retry: {retry} }} ] }}"
    )
}

/// The pauses between the end of one attempt and the start of the next.
fn pauses(log: &Log) -> Vec<SignedDuration> {
    let ends = log.of("step.failed", "call");
    let starts = log.of("step.started", "call");
    ends.iter().zip(&starts[1..]).map(|(end, start)| start.at.duration_since(end.at)).collect()
}

#[track_caller]
fn assert_pauses(log: &Log, expected_ms: &[i64]) {
    let pauses = pauses(log);
    assert_eq!(pauses.len(), expected_ms.len(), "{log}");
    for (pause, expected) in pauses.iter().zip(expected_ms) {
        let expected = SignedDuration::from_millis(*expected);
        assert!(
            *pause >= expected && *pause < expected + LATE,
            "{pauses:?} instead of {expected_ms:?}\n{log}"
        );
    }
}

async fn a_flaky_call_is_tried_again_until_it_works(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 2, 503);
    let yaml = flaky("{ max_attempts: 5, backoff: { type: exponential, initial: 200ms, factor: 2 } }");

    let id = house.run(&yaml, json!({"sink": sink.url()})).await;

    house.wait_for(&id, "completed").await;
    let log = house.events(&id).await;
    assert_pauses(&log, &[200, 400]);
    assert_eq!(log.count("step.retry_scheduled"), 2);
    let step = house.get_step(&id, "call").await;
    let outcomes: Vec<_> =
        step["attempts"].as_array().into_iter().flatten().map(|it| it["outcome"].clone()).collect();
    assert_eq!(outcomes, ["failed", "failed", "succeeded"]);
    assert_eq!(step["attempts"][0]["error"]["type"], "http.503");
    // Definite failures: each attempt is a deed of its own.
    let mut keys: Vec<_> = sink.at("/call").into_iter().map(|effect| effect.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 3, "{keys:?}");
    house.close_with(&[&sink]).await;
}

async fn pauses_between_attempts_grow_as_the_definition_says(mode: Mode) {
    let house = House::open(mode).await;
    for (backoff, expected) in [
        ("{ type: fixed, initial: 150ms }", [150, 150, 150]),
        ("{ type: linear, initial: 100ms }", [100, 200, 300]),
        ("{ type: exponential, initial: 100ms, factor: 3, max: 500ms }", [100, 300, 500]),
    ] {
        let sink = Sink::open().await;
        sink.fails("/call", 3, 500);
        let yaml = flaky(&format!("{{ max_attempts: 4, backoff: {backoff} }}"));
        let id = house.run(&yaml, json!({"sink": sink.url()})).await;
        house.wait_for(&id, "completed").await;
        assert_pauses(&house.events(&id).await, &expected);
    }
    house.close().await;
}

async fn full_jitter_stays_within_its_bounds(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 100, 500);
    let yaml = flaky("{ max_attempts: 6, backoff: { type: fixed, initial: 200ms, jitter: full } }");
    let id = house.run(&yaml, json!({"sink": sink.url()})).await;
    house.wait_for_pause(&id, "step_failed").await;
    let log = house.events(&id).await;
    let planned: Vec<SignedDuration> = (log.of("step.failed", "call").iter())
        .zip(log.of("step.retry_scheduled", "call"))
        .map(|(end, retry)| {
            let at: jiff::Timestamp = retry.body["at"].as_str().unwrap().parse().unwrap();
            at.duration_since(end.at)
        })
        .collect();
    assert_eq!(planned.len(), 5);
    let bounds = SignedDuration::ZERO..=SignedDuration::from_millis(200);
    assert!(planned.iter().all(|pause| bounds.contains(pause)), "{planned:?}");
    assert!(planned.iter().any(|pause| *pause != planned[0]), "no chance in {planned:?}");
    house.close_with(&[&sink]).await;
}

async fn only_the_errors_that_are_named_are_worth_another_attempt(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let yaml = flaky("{ max_attempts: 5, errors: [http.5xx], backoff: { initial: 10ms } }");

    sink.fails("/call", 1, 404);
    let id = house.run(&yaml, json!({"sink": sink.url()})).await;
    house.wait_for_pause(&id, "step_failed").await;
    assert_eq!(house.get_step(&id, "call").await["error"]["type"], "http.404");
    assert_eq!(sink.at("/call").len(), 1);

    sink.fails("/call", 1, 502);
    let id = house.run(&yaml, json!({"sink": sink.url()})).await;
    house.wait_for(&id, "completed").await;
    assert_eq!(sink.at("/call").len(), 3);
    house.close_with(&[&sink]).await;
}

async fn an_exhausted_step_pauses_and_a_person_gives_it_a_new_budget(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 4, 500);
    let yaml = flaky("{ max_attempts: 3, backoff: { initial: 10ms } }");
    let id = house.run(&yaml, json!({"sink": sink.url()})).await;
    let run = house.wait_for_pause(&id, "step_failed").await;
    assert_eq!(run["steps"][0]["status"], "paused");
    assert_eq!(sink.at("/call").len(), 3);

    // One more failure is left in the sink: only a fresh budget gets past it.
    house.retry(&id, "call").await.ok();

    house.wait_for(&id, "completed").await;
    assert_eq!(sink.at("/call").len(), 5);
    assert_eq!(house.get_step(&id, "call").await["attempt"], 5);
    house.close_with(&[&sink]).await;
}

async fn a_person_need_not_wait_for_the_next_attempt(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 1, 500);
    let yaml = flaky("{ max_attempts: 2, backoff: { type: fixed, initial: 1h, max: 1h } }");
    let id = house.run(&yaml, json!({"sink": sink.url()})).await;
    let run = house.wait_for(&id, "waiting").await;
    assert_eq!(run["steps"][0]["waiting_on"]["on"], "retry", "{run:#}");

    house.retry(&id, "call").await.ok();

    house.wait_for(&id, "completed").await;
    house.close_with(&[&sink]).await;
}

async fn a_retry_that_is_due_later_survives_a_kill(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 1, 500);
    let yaml = flaky("{ max_attempts: 2, backoff: { type: fixed, initial: 3s } }");
    let id = house.run(&yaml, json!({"sink": sink.url()})).await;
    house.wait_for(&id, "waiting").await;

    house.kill().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    house.rise().await;

    house.wait_for(&id, "completed").await;
    let log = house.events(&id).await;
    assert_pauses(&log, &[3_000]);
    assert_eq!(log.count("step.lost"), 0);
    house.close_with(&[&sink]).await;
}
