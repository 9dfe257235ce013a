//! Events that workflows send to the outside.

use std::collections::BTreeSet;
use std::time::Duration;

use scenarios::{House, Mode, Sink, eventually, in_every_mode};
use serde_json::json;

in_every_mode!(
    an_emitted_event_reaches_the_receiver,
    an_emitted_event_is_tried_again_until_it_arrives,
    no_emitted_event_is_lost_by_kills,
    a_secret_does_not_travel_with_an_event,
);

const TELL: &str = r#"
version: 1
name: tell
type: steps
steps:
  - { id: tell, type: emit, event: { type: order.paid, data: { n: "${{ inputs.n }}" } } }
"#;

async fn house_that_tells(mode: Mode, receiver: &Sink, more: &[(&str, &str)]) -> House {
    let url = format!("{}/events", receiver.url());
    let settings: Vec<_> = [("WINDLASS_EMIT_URL", url.as_str())].iter().chain(more).copied().collect();
    House::open_with(mode, &settings).await
}

async fn an_emitted_event_reaches_the_receiver(mode: Mode) {
    let receiver = Sink::open().await;
    let house = house_that_tells(mode, &receiver, &[]).await;

    let run = house.run(TELL, json!({"n": 7})).await;

    house.wait_for(&run, "completed").await;
    let told = &receiver.wait_for("/events", 1).await[0];
    assert_eq!((&told.body["type"], &told.body["data"]), (&json!("order.paid"), &json!({"n": 7})));
    assert_eq!(told.body["run_id"], json!(run));
    let emitted = house.events(&run).await.step("event.emitted", "tell").clone();
    assert_eq!(told.key, format!("{run}/{}", emitted.seq));
    assert_eq!(emitted.body["event_type"], "order.paid");
    house.close().await;
}

async fn an_emitted_event_is_tried_again_until_it_arrives(mode: Mode) {
    let receiver = Sink::open().await;
    receiver.fails("/events", 1, 503);
    let house = house_that_tells(mode, &receiver, &[]).await;

    let run = house.run(TELL, json!({"n": 1})).await;

    // The run does not wait for whoever listens.
    house.wait_for(&run, "completed").await;
    let told = receiver.wait_for("/events", 2).await;
    assert_eq!(told[0].key, told[1].key);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(receiver.at("/events").len(), 2, "a delivered event stays delivered");
    let told_of = house.workers().iter().filter(|it| it.log().contains("does not take them")).count();
    assert_eq!(told_of, 1, "whoever was refused says so");
    house.close().await;
}

async fn no_emitted_event_is_lost_by_kills(mode: Mode) {
    let receiver = Sink::open().await;
    receiver.is_slow("/events", Duration::from_millis(20));
    let mut house = house_that_tells(mode, &receiver, &[]).await;
    house.push(TELL).await;
    let mut expected = BTreeSet::new();
    for round in 0..5 {
        for n in 0..10 {
            let run = house.start("tell", json!({"n": round * 10 + n})).await;
            expected.insert(run);
        }
        house.kill_and_rise().await;
    }
    for run in &expected {
        have_completed(&house, run).await;
    }
    eventually("every event to arrive", || async {
        let told = receiver.at("/events");
        let runs: BTreeSet<String> =
            told.iter().filter_map(|it| it.body["run_id"].as_str().map(str::to_owned)).collect();
        (runs == expected).then_some(())
    })
    .await;
    house.close().await;
}

/// A run that was there at three deaths in a row is set aside, until a person has it go on.
async fn have_completed(house: &House, run: &str) {
    let seen = house
        .wait_until(run, "an end or a pause", |it| it["status"] == "completed" || it["status"] == "paused")
        .await;
    if seen["status"] == "paused" {
        assert_eq!(seen["paused_reason"], "quarantined");
        house.resume(run).await.ok();
    }
    house.wait_for(run, "completed").await;
}

async fn a_secret_does_not_travel_with_an_event(mode: Mode) {
    let receiver = Sink::open().await;
    let house = house_that_tells(mode, &receiver, &[("WINDLASS_SECRET_TOKEN", "canary-that-sings")]).await;
    let yaml = r#"
        version: 1
        name: leak
        type: steps
        steps: [{ id: tell, type: emit, event: { type: leak, data: { token: "x ${{ secrets.TOKEN }} y" } } }]
    "#;
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "completed").await;
    let told = &receiver.wait_for("/events", 1).await[0];
    assert_eq!(told.body["data"]["token"], "x *** y");
    assert!(!house.events(&run).await.to_string().contains("canary-that-sings"));
    house.close().await;
}
