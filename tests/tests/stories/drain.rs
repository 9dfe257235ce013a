//! A house that is asked to stop, and stops in peace.

use std::time::Duration;

use scenarios::{House, Mode, Recorder, Sink, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_drain_lets_steps_end_and_repeats_none,
    a_drain_under_load_fails_no_run,
    a_drain_gives_its_whole_time_to_a_step_that_began_long_before,
    a_drain_that_takes_too_long_gives_up_what_is_in_flight,
    a_drained_house_takes_its_runs_up_again,
);

fn deeds(recorder: &Recorder) -> String {
    format!(
        "{{ version: 1, name: deeds, type: steps, steps: [ \
         {{ id: one, type: http, with: {{ method: POST, url: '${{{{ inputs.sink }}}}/one' }} }}, \
         {{ id: two, {} }}, \
         {{ id: three, type: http, with: {{ method: POST, url: '${{{{ inputs.sink }}}}/three' }} }} ] }}",
        recorder.keys()
    )
}

async fn a_drain_lets_steps_end_and_repeats_none(mode: Mode) {
    let mut house = House::open(mode).await;
    let (sink, recorder) = (Sink::open().await, Recorder::open());
    sink.is_slow("/one", Duration::from_millis(700));
    house.push(&deeds(&recorder)).await;
    let mut runs = Vec::new();
    for _ in 0..10 {
        runs.push(house.start("deeds", json!({"sink": sink.url()})).await);
    }
    sink.wait_for("/one", 10).await;

    assert_eq!(house.stop().await, Some(0));
    house.rise().await;

    for run in &runs {
        house.wait_for(run, "completed").await;
        let log = house.events(run).await;
        assert_eq!((log.count("step.lost"), log.count("run.paused")), (0, 0), "{log}");
        assert_eq!(recorder.count(run, "two"), 1);
    }
    assert_eq!((sink.at("/one").len(), sink.at("/three").len()), (10, 10));
    house.close_with(&[&sink]).await;
}

async fn a_drain_under_load_fails_no_run(mode: Mode) {
    let mut house = House::open(mode).await;
    let (sink, recorder) = (Sink::open().await, Recorder::open());
    house.push(&deeds(&recorder)).await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        for _ in 0..8 {
            runs.push(house.start("deeds", json!({"sink": sink.url()})).await);
        }
        assert_eq!(house.stop().await, Some(0));
        house.rise().await;
    }
    for run in &runs {
        house.wait_for(run, "completed").await;
        assert_eq!(house.events(run).await.count("step.lost"), 0);
    }
    assert_eq!(sink.effects().len(), runs.len() * 2);
    assert_eq!(recorder.lines().len(), runs.len());
    house.close_with(&[&sink]).await;
}

const CALL: &str = "{ version: 1, name: call, type: steps, steps: [ { id: call, type: http, \
                    with: { method: POST, url: '${{ inputs.sink }}/call' } } ] }";

async fn a_drain_gives_its_whole_time_to_a_step_that_began_long_before(mode: Mode) {
    let mut house = House::open_with(mode, &[("WINDLASS_DRAIN_TIMEOUT", "2s")]).await;
    let sink = Sink::open().await;
    sink.is_slow("/call", Duration::from_millis(3_500));
    let run = house.run(CALL, json!({"sink": sink.url()})).await;
    sink.wait_for("/call", 1).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;

    assert_eq!(house.stop().await, Some(0));
    house.rise().await;

    house.wait_for(&run, "completed").await;
    assert_eq!((sink.at("/call").len(), house.events(&run).await.count("step.lost")), (1, 0));
    house.close_with(&[&sink]).await;
}

async fn a_drain_that_takes_too_long_gives_up_what_is_in_flight(mode: Mode) {
    let mut house = House::open_with(mode, &[("WINDLASS_DRAIN_TIMEOUT", "1s")]).await;
    let sink = Sink::open().await;
    sink.hangs("/call");
    let run = house.run(CALL, json!({"sink": sink.url()})).await;
    sink.wait_for("/call", 1).await;
    let began = std::time::Instant::now();

    assert_eq!(house.stop().await, Some(0));

    assert!(began.elapsed() < Duration::from_secs(10), "the drain took {:?}", began.elapsed());
    sink.heals("/call");
    house.rise().await;
    house.wait_for_pause(&run, "engine_interrupted").await;
    house.resume(&run).await.ok();
    house.wait_for(&run, "completed").await;
    house.close_with(&[&sink]).await;
}

async fn a_drained_house_takes_its_runs_up_again(mode: Mode) {
    let mut house = House::open(mode).await;
    let yaml = "{ version: 1, name: parked, type: steps, steps: [ \
                { id: nap, type: wait, for: 1s }, { id: hear, type: signal, name: go }, { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "waiting").await;
    house.stop().await;
    house.rise().await;
    house.wait_for_step(&run, "hear", "waiting").await;
    house.stop().await;
    house.rise().await;
    house.signal(&run, "go", &json!(null)).await.ok();
    house.approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}
