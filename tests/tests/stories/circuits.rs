//! Circuit breakers: what is in trouble is left alone for a while, by everybody.

use scenarios::{House, Mode, Sink, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_tool_in_trouble_is_left_alone_until_one_call_gets_through,
    the_circuit_outlives_every_process,
    what_the_tool_refuses_opens_nothing,
);

fn yaml(cool_down: &str, retry: &str) -> String {
    format!(
        r#"
        version: 1
        name: charging
        type: steps
        on_error: fail
        tools:
          payments.charge:
            circuit_breaker: {{ failures: 2, window: 1h, cool_down: {cool_down} }}
            do: {{ type: http, with: {{ method: POST, url: "${{{{ parameters.sink }}}}/charge" }} }}
        steps:
          - {{ id: charge, type: tool, tool: payments.charge, with: {{ sink: "${{{{ inputs.sink }}}}" }}, {retry} }}
        "#
    )
}

/// Runs one call to its end, and tells how it ended: an error's type, or nothing.
async fn call(house: &House, sink: &Sink, yaml: &str) -> Value {
    let run = house.run(yaml, json!({ "sink": sink.url() })).await;
    house.wait_for_end(&run).await["error"]["type"].clone()
}

async fn breaker(house: &House) -> Value {
    let page = house.get("/v1/circuit-breakers").await.ok();
    assert!(page["items"].as_array().is_some_and(|items| items.len() <= 1), "{page}");
    page["items"][0].clone()
}

async fn a_tool_in_trouble_is_left_alone_until_one_call_gets_through(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let once = yaml("3s", "");
    assert_eq!(breaker(&house).await, Value::Null);
    sink.fails("/charge", 2, 503);
    for _ in 0..2 {
        assert_eq!(call(&house, &sink, &once).await, "http.503");
    }
    let open = breaker(&house).await;
    assert_eq!(
        (&open["state"], &open["kind"], &open["name"]),
        (&json!("open"), &json!("tool"), &json!("payments.charge"))
    );
    let patient = yaml(
        "3s",
        "retry: { max_attempts: 50, errors: [circuit.open], backoff: { type: fixed, initial: 300ms } }",
    );
    let run = house.run(&patient, json!({ "sink": sink.url() })).await;
    house.wait_for(&run, "completed").await;
    let attempts = house.get_step(&run, "charge").await["attempts"].clone();
    let first = &attempts[0]["error"];
    assert_eq!(first["type"], "circuit.open", "{attempts}");
    assert_eq!(sink.at("/charge").len(), 3, "nobody called while it was open");
    let closed = eventually("the circuit is closed", || async {
        Some(breaker(&house).await).filter(|breaker| breaker["state"] == "closed")
    })
    .await;
    assert_eq!((&closed["failures"], &closed["probe_at"]), (&json!(0), &Value::Null));
    assert_eq!(call(&house, &sink, &once).await, Value::Null);
    house.close_with(&[&sink]).await;
}

async fn the_circuit_outlives_every_process(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    let once = yaml("1h", "");
    sink.fails("/charge", 2, 503);
    for _ in 0..2 {
        assert_eq!(call(&house, &sink, &once).await, "http.503");
    }
    house.kill_and_rise().await;
    for _ in 0..3 {
        assert_eq!(call(&house, &sink, &once).await, "circuit.open");
    }
    assert_eq!(sink.at("/charge").len(), 2);
    let metrics = house.get("/metrics").await.text;
    assert!(metrics.contains("circuit_breakers_open 1"), "{metrics}");
    house.close_with(&[&sink]).await;
}

async fn what_the_tool_refuses_opens_nothing(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.refuses("/charge", 404, json!({}));
    for _ in 0..4 {
        assert_eq!(call(&house, &sink, &yaml("1h", "")).await, "http.404");
    }
    assert_eq!(breaker(&house).await, Value::Null);
    house.close_with(&[&sink]).await;
}
