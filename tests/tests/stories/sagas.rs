//! What a run did is undone before it fails or is canceled.

use std::time::Duration;

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    what_was_done_last_is_undone_first,
    the_order_may_be_the_declared_one_or_none,
    a_cancel_undoes_what_was_done_and_what_may_have_been,
    a_kill_in_the_middle_of_the_undoing_repeats_nothing_effective,
    a_kill_leaves_an_undoing_that_is_not_safe_to_a_person,
    what_cannot_be_undone_is_retried_by_command,
    what_cannot_be_undone_may_be_passed,
    an_undoing_waits_for_its_next_attempt_without_an_engine,
    a_pause_holds_the_undoing_up_and_a_cancel_is_refused,
);

/// Three bookings that can be given back, and a payment that is refused.
fn trip(compensation: &str, method: &str, retry: &str) -> String {
    let booking = |id: &str, needs: &str| {
        format!(
            "{id}: {{ type: http, needs: [{needs}], with: {{ url: '${{{{ inputs.sink }}}}/{id}', json: {{}}, method: PUT }}, \
             compensate: {{ type: http, retry: {{ {retry} }}, with: {{ method: {method}, \
             url: '${{{{ inputs.sink }}}}/undo-{id}', json: {{ was: '${{{{ nodes.{id}.status }}}}' }} }} }} }}"
        )
    };
    format!(
        "{{ version: 1, name: trip, type: dag, on_error: fail, compensation: {compensation}, nodes: {{ {}, {}, {}, \
         pay: {{ type: http, needs: [car], with: {{ url: '${{{{ inputs.sink }}}}/pay' }} }} }} }}",
        booking("flight", ""),
        booking("hotel", "flight"),
        booking("car", "hotel"),
    )
}

const ONCE: &str = "max_attempts: 1";

/// A house with a run whose payment was refused.
async fn refused(mode: Mode, sink: &Sink, yaml: &str) -> (House, String) {
    let house = House::open(mode).await;
    sink.fails("/pay", 1, 402);
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    (house, run)
}

/// What was undone, in its order.
fn undone(sink: &Sink) -> Vec<String> {
    let paths = sink.effects().into_iter().map(|effect| effect.path);
    paths.filter_map(|path| path.strip_prefix("/undo-").map(str::to_owned)).collect()
}

fn outcome(run: &Value) -> &Value {
    &run["compensation"]["outcome"]
}

async fn what_was_done_last_is_undone_first(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = refused(mode, &sink, &trip("{}", "PUT", ONCE)).await;

    let ended = house.wait_for(&run, "failed").await;

    assert_eq!((&ended["error"]["type"], outcome(&ended)), (&json!("http.402"), &json!("succeeded")));
    assert_eq!(undone(&sink), ["car", "hotel", "flight"]);
    let log = house.events(&run).await;
    let planned = json!(["car.compensate", "hotel.compensate", "flight.compensate"]);
    assert_eq!(log.first("compensation.planned").body["steps"], planned);
    assert_eq!(log.first("run.failed").body["compensation"], "succeeded");
    let start = log.step("compensation.started", "car.compensate");
    assert_eq!(start.body["idempotency_key"], format!("{run}/car.compensate/1"));
    assert_eq!(sink.at("/undo-car")[0].key, format!("{run}/car.compensate/1"));
    assert_eq!(sink.at("/undo-car")[0].body["was"], "succeeded");
    assert_eq!(house.get_step(&run, "car.compensate").await["compensates"], "car");
    house.close_with(&[&sink]).await;
}

async fn the_order_may_be_the_declared_one_or_none(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = refused(mode, &sink, &trip("{ order: declared }", "PUT", ONCE)).await;
    house.wait_for(&run, "failed").await;
    assert_eq!(undone(&sink), ["flight", "hotel", "car"]);

    // Each of them hangs, so all of them must have begun.
    let side_by_side = Sink::open().await;
    side_by_side.fails("/pay", 1, 402);
    for path in ["/undo-flight", "/undo-hotel", "/undo-car"] {
        side_by_side.hangs(path);
    }
    let yaml = trip("{ order: parallel }", "PUT", ONCE);
    let run = house.run(&yaml, json!({"sink": side_by_side.url()})).await;
    for path in ["/undo-flight", "/undo-hotel", "/undo-car"] {
        side_by_side.wait_for(path, 1).await;
    }
    assert_eq!(house.get_run(&run).await["status"], "compensating");
    assert_eq!(house.events(&run).await.count("compensation.started"), 3);
    house.close_with(&[&sink, &side_by_side]).await;
}

async fn a_cancel_undoes_what_was_done_and_what_may_have_been(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/car");
    let run = house.run(&trip("{ when: [canceled] }", "PUT", ONCE), json!({"sink": sink.url()})).await;
    sink.wait_for("/car", 1).await;

    house.cancel(&run).await.ok();

    let ended = house.wait_for(&run, "canceled").await;
    assert_eq!(outcome(&ended), "succeeded");
    assert_eq!(undone(&sink), ["car", "hotel", "flight"], "nobody knows whether the car was booked");
    assert_eq!(sink.at("/undo-car")[0].body["was"], "canceled");

    sink.heals("/car").fails("/pay", 1, 402);
    let yaml = trip("{ when: [canceled] }", "PUT", ONCE);
    let failed = house.run(&yaml, json!({"sink": sink.url()})).await;
    assert_eq!(house.wait_for(&failed, "failed").await["compensation"], Value::Null);
    house.close_with(&[&sink]).await;
}

/// A house that was killed while the hotel was given back, and is up again.
async fn killed_while_undoing(mode: Mode, sink: &Sink, method: &str) -> (House, String) {
    sink.hangs("/undo-hotel");
    let (mut house, run) = refused(mode, sink, &trip("{}", method, ONCE)).await;
    sink.wait_for("/undo-hotel", 1).await;
    house.kill().await;
    sink.heals("/undo-hotel");
    house.rise().await;
    (house, run)
}

async fn a_kill_in_the_middle_of_the_undoing_repeats_nothing_effective(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = killed_while_undoing(mode, &sink, "PUT").await;

    assert_eq!(outcome(&house.wait_for(&run, "failed").await), "succeeded");

    assert_eq!(undone(&sink), ["car", "hotel", "hotel", "flight"]);
    let hotel = sink.at("/undo-hotel");
    assert_eq!(hotel[0].key, hotel[1].key, "the same deed keeps its key");
    let log = house.events(&run).await;
    assert_eq!(log.count("compensation.planned"), 1);
    assert!(log.has("compensation.lost", "hotel.compensate"), "{log}");
    house.close_with(&[&sink]).await;
}

async fn a_kill_leaves_an_undoing_that_is_not_safe_to_a_person(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = killed_while_undoing(mode, &sink, "POST").await;
    house.wait_for_pause(&run, "engine_interrupted").await;
    assert_eq!(undone(&sink), ["car", "hotel"]);

    house.resume(&run).await.ok();

    assert_eq!(outcome(&house.wait_for(&run, "failed").await), "succeeded");
    assert_eq!(undone(&sink), ["car", "hotel", "hotel", "flight"]);
    house.close_with(&[&sink]).await;
}

/// A house with a run that cannot give the hotel back.
async fn exhausted(mode: Mode, sink: &Sink) -> (House, String) {
    sink.fails("/undo-hotel", 2, 503);
    let twice = "max_attempts: 2, backoff: { type: fixed, initial: 50ms }";
    let (house, run) = refused(mode, sink, &trip("{}", "PUT", twice)).await;
    let paused = house.wait_for_pause(&run, "compensation_failed").await;
    assert!(
        paused["paused_message"].as_str().is_some_and(|it| it.contains("hotel.compensate")),
        "{paused:#}"
    );
    assert_eq!(undone(sink), ["car", "hotel", "hotel"]);
    (house, run)
}

async fn what_cannot_be_undone_is_retried_by_command(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = exhausted(mode, &sink).await;
    house.cancel(&run).await.refused(409, "wrong_state");

    let receipt = house.retry(&run, "hotel.compensate").await.ok();

    assert_eq!(receipt["status"], "compensating");
    assert_eq!(outcome(&house.wait_for(&run, "failed").await), "succeeded");
    assert_eq!(undone(&sink), ["car", "hotel", "hotel", "hotel", "flight"]);
    house.close_with(&[&sink]).await;
}

async fn what_cannot_be_undone_may_be_passed(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = exhausted(mode, &sink).await;

    house.skip(&run, "hotel.compensate").await.ok();

    let ended = house.wait_for(&run, "failed").await;
    assert_eq!((outcome(&ended), &ended["error"]["type"]), (&json!("incomplete"), &json!("http.402")));
    assert_eq!(undone(&sink), ["car", "hotel", "hotel", "flight"]);
    house.close_with(&[&sink]).await;
}

async fn an_undoing_waits_for_its_next_attempt_without_an_engine(mode: Mode) {
    let sink = Sink::open().await;
    sink.fails("/undo-car", 1, 503);
    let later = "max_attempts: 2, backoff: { type: fixed, initial: 2s }";
    let (mut house, run) = refused(mode, &sink, &trip("{}", "PUT", later)).await;
    house.wait_for_step(&run, "car.compensate", "waiting").await;
    assert_eq!(house.get_run(&run).await["status"], "compensating");

    house.kill().await;
    house.rise().await;

    assert_eq!(outcome(&house.wait_for(&run, "failed").await), "succeeded");
    let tries = sink.at("/undo-car");
    assert_ne!(tries[0].key, tries[1].key, "a definite failure ends its key");
    assert!(tries[1].at.duration_since(tries[0].at).unsigned_abs() >= Duration::from_millis(1_900));
    house.close_with(&[&sink]).await;
}

async fn a_pause_holds_the_undoing_up_and_a_cancel_is_refused(mode: Mode) {
    let sink = Sink::open().await;
    sink.is_slow("/undo-car", Duration::from_millis(500));
    let (house, run) = refused(mode, &sink, &trip("{}", "PUT", ONCE)).await;
    sink.wait_for("/undo-car", 1).await;
    house.cancel(&run).await.refused(409, "wrong_state");

    house.pause(&run).await.ok();

    house.wait_for_step(&run, "car.compensate", "succeeded").await;
    assert_eq!(house.get_run(&run).await["status"], "paused");
    assert_eq!(undone(&sink), ["car"]);
    house.resume(&run).await.ok();
    assert_eq!(outcome(&house.wait_for(&run, "failed").await), "succeeded");
    assert_eq!(undone(&sink), ["car", "hotel", "flight"]);
    house.close_with(&[&sink]).await;
}
