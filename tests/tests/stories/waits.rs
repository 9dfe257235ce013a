//! Durable waits.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use scenarios::{House, Mode, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_wait_ends_when_its_time_has_come_and_not_before,
    a_wait_until_a_moment_that_has_passed_ends_at_once,
    a_wait_that_ends_while_nobody_is_there_ends_late_and_once,
    a_hundred_waits_that_end_together_all_end_once,
    a_paused_run_sleeps_on_until_it_is_resumed,
    a_wait_may_be_skipped,
);

fn wait(keys: &str) -> String {
    format!(
        "{{ version: 1, name: wait, type: steps, steps: [ {{ id: rest, type: wait, {keys} }}, {{ id: end, type: noop }} ] }}"
    )
}

async fn a_wait_ends_when_its_time_has_come_and_not_before(mode: Mode) {
    let house = House::open(mode).await;
    let until = Timestamp::now() + SignedDuration::from_millis(1200);
    let by_span = house.run(&wait("for: 1s"), json!({})).await;
    let by_moment = house.run(&wait("until: '${{ inputs.at }}'"), json!({"at": until.to_string()})).await;
    assert_eq!(house.wait_for(&by_span, "waiting").await["steps"][0]["waiting_on"]["on"], "timer");

    for run in [&by_span, &by_moment] {
        house.wait_for(run, "completed").await;
        // Not before is the checker's to find; late is what a person would notice.
        let log = house.events(run).await;
        let due: Timestamp = log.first("step.waiting").body["until"].as_str().unwrap().parse().unwrap();
        let late = log.first("timer.fired").at.duration_since(due);
        assert!(late < SignedDuration::from_secs(3), "late by {late}\n{log}");
    }
    house.close().await;
}

async fn a_wait_until_a_moment_that_has_passed_ends_at_once(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(&wait("until: '2001-01-01T00:00:00Z'"), json!({})).await;
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_wait_that_ends_while_nobody_is_there_ends_late_and_once(mode: Mode) {
    let mut house = House::open(mode).await;
    let run = house.run(&wait("for: 3s"), json!({})).await;
    house.wait_for(&run, "waiting").await;

    house.kill().await;
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    house.rise().await;

    house.wait_for(&run, "completed").await;
    assert_eq!(house.events(&run).await.count("timer.fired"), 1);
    house.close().await;
}

async fn a_hundred_waits_that_end_together_all_end_once(mode: Mode) {
    let house = House::open(mode).await;
    let until = Timestamp::now() + SignedDuration::from_secs(4);
    house.push(&wait("until: '${{ inputs.at }}'")).await;
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(house.start("wait", json!({"at": until.to_string()})).await);
    }
    for run in &runs {
        house.wait_for(run, "completed").await;
        assert_eq!(house.events(run).await.count("timer.fired"), 1);
    }
    house.close().await;
}

async fn a_paused_run_sleeps_on_until_it_is_resumed(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(&wait("for: 3s"), json!({})).await;
    house.wait_for(&run, "waiting").await;
    house.pause(&run).await.ok();

    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(house.get_run(&run).await["status"], "paused");
    assert_eq!(house.events(&run).await.count("timer.fired"), 0);

    house.resume(&run).await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_wait_may_be_skipped(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(&wait("for: 7d"), json!({})).await;
    house.wait_for_step(&run, "rest", "waiting").await;
    house.skip(&run, "rest").await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}
