//! Signals: words from outside that a run waits for.

use scenarios::{House, Mode, in_every_mode};
use serde_json::json;

in_every_mode!(
    a_signal_reaches_the_step_that_listens,
    a_signal_that_comes_early_is_kept,
    signals_are_taken_in_the_order_they_came,
    a_payload_must_fit_its_schema,
    a_signal_that_nobody_will_hear_is_refused,
    an_early_signal_survives_a_kill,
);

const LISTEN: &str = r#"
version: 1
name: listen
type: steps
steps:
  - { id: first, type: signal, name: paid, schema: { type: object, required: [amount], properties: { amount: { type: number } } } }
  - { id: second, type: signal, name: shipped }
outputs: { amount: "${{ nodes.first.output.amount }}", by: "${{ nodes.second.output.by }}" }
"#;

async fn a_signal_reaches_the_step_that_listens(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(LISTEN, json!({})).await;
    let waiting = house.wait_for_step(&run, "first", "waiting").await;
    assert_eq!(
        (&waiting["waiting_on"]["on"], &waiting["waiting_on"]["name"]),
        (&json!("signal"), &json!("paid"))
    );

    house.as_user("shop", &[]).signal(&run, "paid", &json!({"amount": 12.5})).await.ok();
    house.wait_for_step(&run, "second", "waiting").await;
    house.signal(&run, "shipped", &json!({"by": "post"})).await.ok();

    assert_eq!(house.wait_for(&run, "completed").await["output"], json!({"amount": 12.5, "by": "post"}));
    assert_eq!(house.events(&run).await.first("signal.received").body["actor"]["id"], "shop");
    house.close().await;
}

async fn a_signal_that_comes_early_is_kept(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(LISTEN, json!({})).await;
    house.wait_for_step(&run, "first", "waiting").await;

    house.signal(&run, "shipped", &json!({"by": "bike"})).await.ok();
    assert_eq!(house.wait_for(&run, "waiting").await["current_step_index"], 0);
    house.signal(&run, "paid", &json!({"amount": 1})).await.ok();

    assert_eq!(house.wait_for(&run, "completed").await["output"]["by"], "bike");
    house.close().await;
}

async fn signals_are_taken_in_the_order_they_came(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: queue
        type: steps
        steps:
          - { id: go, type: signal, name: go }
          - { id: a, type: signal, name: n }
          - { id: b, type: signal, name: n }
          - { id: c, type: signal, name: n }
        outputs: ["${{ nodes.a.output }}", "${{ nodes.b.output }}", "${{ nodes.c.output }}"]
    "#;
    let run = house.run(yaml, json!({})).await;
    for n in 1..=3 {
        house.signal(&run, "n", &json!(n)).await.ok();
    }
    house.signal(&run, "go", &json!(null)).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!([1, 2, 3]));
    house.close().await;
}

async fn a_payload_must_fit_its_schema(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(LISTEN, json!({})).await;
    house.wait_for_step(&run, "first", "waiting").await;
    for payload in [json!({}), json!({"amount": "12"}), json!(5), json!(null)] {
        house.signal(&run, "paid", &payload).await.refused(422, "invalid_payload");
    }
    assert_eq!(house.events(&run).await.count("signal.received"), 0);
    house.cancel(&run).await.ok();
    house.close().await;
}

async fn a_signal_that_nobody_will_hear_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(LISTEN, json!({})).await;
    house.wait_for_step(&run, "first", "waiting").await;
    house.signal(&run, "unheard", &json!(1)).await.refused(409, "unknown_signal");
    house.signal(&run, "paid", &json!({"amount": 1})).await.ok();
    house.wait_for_step(&run, "second", "waiting").await;
    house.signal(&run, "paid", &json!({"amount": 2})).await.refused(409, "unknown_signal");
    house.signal(&run, "shipped", &json!({"by": "foot"})).await.ok();
    house.wait_for(&run, "completed").await;
    house.signal(&run, "shipped", &json!({"by": "foot"})).await.refused(409, "run_terminal");
    house.close().await;
}

async fn an_early_signal_survives_a_kill(mode: Mode) {
    let mut house = House::open(mode).await;
    let run = house.run(LISTEN, json!({})).await;
    house.wait_for_step(&run, "first", "waiting").await;
    house.signal(&run, "shipped", &json!({"by": "boat"})).await.ok();

    house.kill_and_rise().await;

    house.signal(&run, "paid", &json!({"amount": 3})).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"]["by"], "boat");
    house.close().await;
}
