//! Engines that die or stall while they hold a run.

use std::time::Duration;

use scenarios::house::{LEASE_IS_OVER, Plan};
use scenarios::{House, Mode, Recorder, Sink, eventually, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_lost_step_that_must_not_be_repeated_waits_for_a_person,
    a_lost_step_may_be_skipped_instead,
    a_lost_step_that_is_safe_is_repeated_with_its_key,
    a_script_is_safe_to_repeat_only_when_its_author_says_so,
    a_finished_step_is_never_repeated,
    a_run_that_was_there_at_three_deaths_is_quarantined,
    a_parked_run_takes_no_harm_from_deaths,
    a_house_that_slept_longer_than_its_lease_repeats_nothing_unasked,
    what_scripts_left_whose_worker_and_keeper_were_killed_is_removed_by_the_next_one;
    // PostgreSQL is there for many processes.
    embedded only: one_database_has_one_owner,
);

fn call(method: &str) -> String {
    format!(
        "{{ version: 1, name: call, type: steps, steps: [ \
         {{ id: call, type: http, with: {{ method: {method}, url: '${{{{ inputs.sink }}}}/call' }} }}, \
         {{ id: end, type: noop }} ] }}"
    )
}

/// A house that was killed while a call hung, and is up again.
async fn interrupted(mode: Mode, method: &str, sink: &Sink) -> (House, String) {
    let mut house = House::open(mode).await;
    sink.hangs("/call");
    let run = house.run(&call(method), json!({"sink": sink.url()})).await;
    sink.wait_for("/call", 1).await;
    house.kill().await;
    sink.heals("/call");
    house.rise().await;
    (house, run)
}

async fn a_lost_step_that_must_not_be_repeated_waits_for_a_person(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = interrupted(mode, "POST", &sink).await;
    house.wait_for_pause(&run, "engine_interrupted").await;
    assert_eq!(house.get_step(&run, "call").await["attempts"][0]["outcome"], "lost");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sink.at("/call").len(), 1);

    house.resume(&run).await.ok();

    house.wait_for(&run, "completed").await;
    let effects = sink.at("/call");
    assert_eq!((effects.len(), &effects[0].key), (2, &effects[1].key), "the same deed keeps its key");
    house.close_with(&[&sink]).await;
}

async fn a_lost_step_may_be_skipped_instead(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = interrupted(mode, "POST", &sink).await;
    house.wait_for_pause(&run, "engine_interrupted").await;
    house.skip(&run, "call").await.ok();
    house.wait_for(&run, "completed").await;
    assert_eq!(sink.at("/call").len(), 1);
    house.close_with(&[&sink]).await;
}

async fn a_lost_step_that_is_safe_is_repeated_with_its_key(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = interrupted(mode, "PUT", &sink).await;
    house.wait_for(&run, "completed").await;
    let effects = sink.at("/call");
    assert_eq!((effects.len(), &effects[0].key), (2, &effects[1].key));
    let log = house.events(&run).await;
    assert_eq!(log.step("step.lost", "call").body["retry"], true);
    assert_eq!(log.count("run.paused"), 0);
    house.close_with(&[&sink]).await;
}

async fn a_script_is_safe_to_repeat_only_when_its_author_says_so(mode: Mode) {
    let mut house = House::open(mode).await;
    let recorder = Recorder::open();
    let slow = recorder.keys().replace("echo", "sleep 3; echo");
    let yaml = |safe: bool| {
        format!(
            "{{ version: 1, name: script, type: steps, steps: [ {{ id: deed, retry_safe: {safe}, {slow} }} ] }}"
        )
    };
    let unsafe_run = house.run(&yaml(false), json!({})).await;
    let safe_run = house.run(&yaml(true), json!({})).await;
    for run in [&unsafe_run, &safe_run] {
        house.wait_for_step(run, "deed", "running").await;
    }

    house.kill_and_rise().await;

    house.wait_for(&safe_run, "completed").await;
    house.wait_for_pause(&unsafe_run, "engine_interrupted").await;
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    assert_eq!(recorder.count(&safe_run, "deed"), 1, "the first try died with its engine");
    assert_eq!(recorder.count(&unsafe_run, "deed"), 0, "a script outlived its engine");
    house.resume(&unsafe_run).await.ok();
    house.wait_for(&unsafe_run, "completed").await;
    house.close().await;
}

async fn a_finished_step_is_never_repeated(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    let yaml = r#"
        version: 1
        name: keep
        type: steps
        steps:
          - { id: deed, type: http, with: { method: POST, url: "${{ inputs.sink }}/deed" } }
          - { id: ask, type: approval }
          - { id: last, type: http, with: { method: POST, url: "${{ inputs.sink }}/last" } }
    "#;
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    house.wait_for_gate(&run, "ask").await;
    for _ in 0..3 {
        house.kill_and_rise().await;
    }
    house.approve(&run, "ask").await.ok();
    house.wait_for(&run, "completed").await;
    assert_eq!((sink.at("/deed").len(), sink.at("/last").len()), (1, 1));
    house.close_with(&[&sink]).await;
}

async fn a_run_that_was_there_at_three_deaths_is_quarantined(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let run = house.run(&call("PUT"), json!({"sink": sink.url()})).await;
    for death in 1..=3 {
        sink.wait_for("/call", death).await;
        house.kill_and_rise().await;
    }

    house.wait_for_pause(&run, "quarantined").await;
    let log = house.events(&run).await;
    assert_eq!((log.count("run.quarantined"), log.count("step.lost")), (1, 3), "{log}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sink.at("/call").len(), 3, "a quarantined run does nothing");

    sink.heals("/call");
    house.resume(&run).await.ok();
    house.wait_for(&run, "completed").await;
    house.close_with(&[&sink]).await;
}

async fn a_parked_run_takes_no_harm_from_deaths(mode: Mode) {
    let mut house = House::open(mode).await;
    let yaml = "{ version: 1, name: parked, type: steps, steps: [ { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "waiting").await;
    let before = house.events(&run).await.0.len();
    for _ in 0..5 {
        house.kill_and_rise().await;
    }
    assert_eq!(house.events(&run).await.0.len(), before, "nobody had a reason to touch it");
    house.approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_house_that_slept_longer_than_its_lease_repeats_nothing_unasked(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.is_slow("/call", Duration::from_millis(800));
    house.push(&call("POST")).await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(house.start("call", json!({"sink": sink.url()})).await);
    }
    sink.wait_for("/call", 5).await;

    house.freeze();
    tokio::time::sleep(LEASE_IS_OVER * 2).await;
    house.thaw();

    for run in &runs {
        let settled = |run: &serde_json::Value| run["status"] == "completed" || run["status"] == "paused";
        let now = house.wait_until(run, "an end or a pause", settled).await;
        if now["status"] == "paused" {
            assert_eq!(now["paused_reason"], "engine_interrupted");
            house.resume(run).await.ok();
            house.wait_for(run, "completed").await;
        }
    }
    house.close_with(&[&sink]).await;
}

async fn what_scripts_left_whose_worker_and_keeper_were_killed_is_removed_by_the_next_one(mode: Mode) {
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let temporary = place.path().to_str().expect("a plain path");
    let homes = || -> Vec<_> {
        let entries = std::fs::read_dir(place.path()).expect("our own folder");
        entries.map(|entry| entry.expect("our own folder").path()).collect()
    };
    let script =
        "{ version: 1, name: quick, type: steps, steps: [ { id: a, type: script, command: ['true'] } ] }";
    let mut house = Plan::of(mode).workers(1).with(&[("TMPDIR", temporary)]).open().await;
    let run = house.run(script, json!({})).await;
    house.wait_for(&run, "completed").await;
    let left = homes();
    assert_eq!(left.len(), 1, "{left:?}");

    let [worker] = &house.workers()[..] else { panic!("there is one") };
    worker.keeper().expect("a script has run").kill();
    worker.kill().await;
    assert_eq!(homes(), left);
    house.rise().await;
    let run = house.run(script, json!({})).await;
    house.wait_for(&run, "completed").await;

    let removed = || async { (!left[0].exists()).then_some(()) };
    eventually("what is left of the dead to be gone", removed).await;
    assert_eq!(homes().len(), 1, "{:?}", homes());
    house.close().await;
}

async fn one_database_has_one_owner(mode: Mode) {
    let house = House::open(mode).await;
    let said = house.ask(&["dev"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let owner = house.processes()[0].pid().to_string();
    assert!(said.text.contains(&owner), "the message names the owner's pid: {said:?}");
    house.get("/healthz").await.ok();
    house.close().await;
}
