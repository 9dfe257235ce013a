//! Circuit breakers: what is in trouble is left alone for a while, by everybody.

use scenarios::{House, Mode, Sink, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_tool_in_trouble_is_left_alone_until_one_call_gets_through,
    the_circuit_outlives_every_process,
    what_the_tool_refuses_opens_nothing,
    a_host_in_trouble_is_left_alone_whoever_calls_it,
    a_try_that_is_canceled_lets_the_next_one_try,
);

const PATIENCE: &str =
    "retry: { max_attempts: 50, errors: [circuit.open], backoff: { type: fixed, initial: 300ms } }";

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
    let run = house.run(&yaml("3s", PATIENCE), json!({ "sink": sink.url() })).await;
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

/// Asks a host by itself; one of these is a graph, and one a machine.
fn asking(name: &str, more: &str) -> String {
    format!(
        r#"
        version: 1
        name: {name}
        type: dag
        defaults: {{ on_error: fail }}
        nodes:
          ask: {{ type: http, with: {{ url: "${{{{ inputs.sink }}}}/stock" }}, {more} }}
        "#
    )
}

const BREAKER: &str = "circuit_breaker: { failures: 2, window: 1h, cool_down: 3s }";

const MACHINE: &str = r#"
    version: 1
    name: watching
    type: machine
    initial: asking
    states:
      asking:
        invoke:
          type: http
          with: { url: "${{ inputs.sink }}/other-path" }
          circuit_breaker: { failures: 2, window: 1h, cool_down: 3s }
          on_done: told
          on_error: [{ match: [circuit.open], target: spared }]
      told: { type: final, output: told }
      spared: { type: final, output: spared }
    outputs: ${{ output }}
"#;

async fn a_host_in_trouble_is_left_alone_whoever_calls_it(mode: Mode) {
    let house = House::open(mode).await;
    let (sink, other) = (Sink::open().await, Sink::open().await);
    let once = asking("asking", BREAKER);
    sink.fails("/stock", 3, 503);
    for _ in 0..2 {
        assert_eq!(call(&house, &sink, &once).await, "http.503");
    }
    let open = breaker(&house).await;
    let host = sink.url().trim_start_matches("http://");
    assert_eq!(
        (&open["state"], &open["kind"], &open["name"]),
        (&json!("open"), &json!("host"), &json!(host))
    );
    // Who says nothing of a breaker asks for none, and tells nobody.
    assert_eq!(call(&house, &sink, &asking("careless", "")).await, "http.503");
    // Another host is another circuit; a URL that is none has no circuit at all.
    assert_eq!(call(&house, &other, &once).await, Value::Null);
    let run = house.run(&once, json!({ "sink": "no url" })).await;
    assert_eq!(house.wait_for_end(&run).await["error"]["type"], "http.invalid_request");
    let patient = asking("patient", &format!("{BREAKER}, {PATIENCE}"));
    let run = house.run(&patient, json!({ "sink": sink.url() })).await;
    house.wait_for(&run, "completed").await;
    assert_eq!(sink.at("/stock").len(), 4, "nobody else called while it was open");
    let closed = breaker(&house).await;
    assert_eq!((&closed["state"], &closed["name"]), (&json!("closed"), &json!(host)));
    // And a definition that is quite another, on another path.
    let told = house.run(MACHINE, json!({ "sink": sink.url() })).await;
    assert_eq!(house.wait_for(&told, "completed").await["output"], "told");
    sink.fails("/stock", 2, 503);
    for _ in 0..2 {
        assert_eq!(call(&house, &sink, &once).await, "http.503");
    }
    let spared = house.run(MACHINE, json!({ "sink": sink.url() })).await;
    assert_eq!(house.wait_for(&spared, "completed").await["output"], "spared");
    assert_eq!(sink.at("/other-path").len(), 1);
    house.close_with(&[&sink, &other]).await;
}

async fn a_try_that_is_canceled_lets_the_next_one_try(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let breaker = "circuit_breaker: { failures: 2, window: 1h, cool_down: 4s }";
    let once = asking("asking", breaker);
    sink.fails("/stock", 2, 503);
    for _ in 0..2 {
        assert_eq!(call(&house, &sink, &once).await, "http.503");
    }
    sink.hangs("/stock");
    let patient = asking("patient", &format!("{breaker}, {PATIENCE}"));
    let run = house.run(&patient, json!({ "sink": sink.url() })).await;
    sink.wait_for("/stock", 3).await;
    sink.heals("/stock");
    house.cancel(&run).await.ok();
    house.wait_for(&run, "canceled").await;
    assert_eq!(call(&house, &sink, &once).await, Value::Null, "it need not wait for another cool-down");
    house.close_with(&[&sink]).await;
}
