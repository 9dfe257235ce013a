//! Cancel: from every status, and against a run that is just about to complete.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;
use scenarios::{Chance, House, Mode, Recorder, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_running_step_is_stopped_at_once,
    a_script_is_stopped_with_its_children,
    a_queued_run_is_canceled_before_it_ever_starts,
    a_parked_run_is_canceled,
    a_paused_run_is_canceled,
    a_run_between_two_attempts_is_canceled,
    a_second_cancel_is_refused,
    a_cancel_survives_a_kill,
    of_cancel_and_completion_exactly_one_wins_two_hundred_times,
);

async fn a_running_step_is_stopped_at_once(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let yaml = r#"
        version: 1
        name: hang
        type: dag
        nodes:
          call: { type: http, with: { url: "${{ inputs.sink }}/call" } }
          ask: { type: approval }
          after: { type: noop, needs: [call] }
    "#;
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    sink.wait_for("/call", 1).await;

    let receipt =
        house.as_user("ada", &[]).command(&run, "cancel", &json!({"reason": "wrong day"})).await.ok();

    assert!(receipt["status"] == "canceling" || receipt["status"] == "canceled", "{receipt}");
    let run_now = house.wait_for(&run, "canceled").await;
    let log = house.events(&run).await;
    let asked = log.first("run.cancel_requested");
    assert_eq!((&asked.body["reason"], &asked.body["actor"]["id"]), (&json!("wrong day"), &json!("ada")));
    let took = log.first("run.canceled").at.duration_since(asked.at);
    assert!(took.as_secs() < 5, "the hanging call held the cancel up for {took}");
    for node in ["call", "ask"] {
        assert!(log.has("step.canceled", node), "{log}");
    }
    assert!(run_now["ended_at"].is_string());
    house.close_with(&[&sink]).await;
}

async fn a_script_is_stopped_with_its_children(mode: Mode) {
    let house = House::open(mode).await;
    let recorder = Recorder::open();
    let begun = recorder.path().with_file_name("begun");
    let yaml = format!(
        "{{ version: 1, name: nap, type: steps, steps: [ {{ id: nap, type: script, \
         command: [/bin/sh, -c, '(sleep 4; echo a b 1 c >> {}) & touch {}; sleep 60'] }} ] }}",
        recorder.path().display(),
        begun.display()
    );
    let run = house.run(&yaml, json!({})).await;
    scenarios::eventually("the script to begin", || async { begun.exists().then_some(()) }).await;

    house.cancel(&run).await.ok();

    house.wait_for(&run, "canceled").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(recorder.lines(), [], "a grandchild outlived the cancel");
    house.close().await;
}

async fn a_queued_run_is_canceled_before_it_ever_starts(mode: Mode) {
    let house = House::open_with(mode, &[("WINDLASS_WORKER_MAX_RUNS", "1")]).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let yaml = "{ version: 1, name: hog, type: steps, steps: [ { id: a, type: http, with: { url: '${{ inputs.sink }}/call' } } ] }";
    // Whoever could take a run has one.
    let hands = house.workers().len();
    let mut hogs = Vec::new();
    for _ in 0..hands {
        hogs.push(house.run(yaml, json!({"sink": sink.url()})).await);
    }
    sink.wait_for("/call", hands).await;
    let queued = house.run(yaml, json!({"sink": sink.url()})).await;
    assert_eq!(house.get_run(&queued).await["status"], "queued");

    house.cancel(&queued).await.ok();
    for hog in &hogs {
        house.cancel(hog).await.ok();
    }

    for run in hogs.iter().chain([&queued]) {
        house.wait_for(run, "canceled").await;
    }
    assert_eq!(sink.at("/call").len(), hands);
    house.close_with(&[&sink]).await;
}

const GATE: &str =
    "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval }, { id: b, type: noop } ] }";

async fn a_parked_run_is_canceled(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(GATE, json!({})).await;
    house.wait_for(&run, "waiting").await;
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    assert_eq!(house.get_step(&run, "ok").await["status"], "canceled");
    house.close().await;
}

async fn a_paused_run_is_canceled(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(GATE, json!({})).await;
    house.wait_for(&run, "waiting").await;
    house.pause(&run).await.ok();
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    house.close().await;
}

async fn a_run_between_two_attempts_is_canceled(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/call", 9, 500);
    let yaml = "{ version: 1, name: later, type: steps, steps: [ { id: a, type: http, \
                with: { url: '${{ inputs.sink }}/call' }, retry: { max_attempts: 9, backoff: { initial: 1m } } } ] }";
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    house.wait_for(&run, "waiting").await;
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    assert_eq!(sink.at("/call").len(), 1);
    house.close_with(&[&sink]).await;
}

async fn a_second_cancel_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(GATE, json!({})).await;
    house.wait_for(&run, "waiting").await;
    house.cancel(&run).await.ok();
    let answer = house.cancel(&run).await;
    assert_eq!(answer.status, 409, "{answer}");
    house.wait_for(&run, "canceled").await;
    assert_eq!(house.events(&run).await.count("run.cancel_requested"), 1);
    house.close().await;
}

async fn a_cancel_survives_a_kill(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let yaml = "{ version: 1, name: post, type: steps, steps: [ { id: a, type: http, \
                with: { method: POST, url: '${{ inputs.sink }}/call' } } ] }";
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(house.run(yaml, json!({"sink": sink.url()})).await);
    }
    sink.wait_for("/call", 5).await;
    for run in &runs {
        house.cancel(run).await.ok();
    }
    house.kill_and_rise().await;
    for run in &runs {
        house.wait_for(run, "canceled").await;
    }
    assert_eq!(sink.at("/call").len(), 5);
    house.close_with(&[&sink]).await;
}

/// Rounds of the race, as the product's promise counts them.
const RACES: u64 = 200;
/// Races that run side by side.
const LANES: usize = 8;
/// Twice as long as the run takes, so that either may win.
const HEAD_START_MAX: Duration = Duration::from_millis(40);

async fn of_cancel_and_completion_exactly_one_wins_two_hundred_times(mode: Mode) {
    let house = House::open(mode).await;
    let mut chance = Chance::from_environment();
    // The wait lets a run take about as long on a fast machine as on a slow one.
    let yaml = "{ version: 1, name: race, type: steps, steps: [ { id: a, type: noop }, \
                { id: nap, type: wait, for: 20ms }, { id: b, type: noop } ] }";
    house.push(yaml).await;
    let starts: Vec<Duration> = (0..RACES).map(|_| chance.between(Duration::ZERO, HEAD_START_MAX)).collect();

    let won: Vec<bool> = iter(starts)
        .map(|head_start| {
            let house = house.client();
            async move {
                let run = house.start("race", json!({})).await;
                tokio::time::sleep(head_start).await;
                let answer = house.cancel(&run).await;
                let end = house.wait_for_end(&run).await;
                if answer.is_ok() {
                    assert_eq!(end["status"], "canceled", "a 2xx cancel ended otherwise");
                    true
                } else {
                    assert_eq!(end["status"], "completed", "a refused cancel ended otherwise");
                    answer.refused(409, "run_terminal");
                    false
                }
            }
        })
        .buffer_unordered(LANES)
        .collect()
        .await;

    let cancels = won.iter().filter(|won| **won).count();
    assert!(cancels > 0 && cancels < won.len(), "no race: cancel won {cancels} of {} times", won.len());
    house.close().await;
}
