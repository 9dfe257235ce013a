//! Tools: calls by name, checked on their way there and back.

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_tool_is_called_with_its_parameters_and_gives_its_result,
    a_call_that_breaks_the_parameters_never_happens,
    a_result_that_breaks_its_schema_is_told_where,
    a_refusal_of_the_tool_is_an_error_of_its_own,
    a_lost_call_of_an_idempotent_tool_is_repeated_with_its_key,
    a_lost_call_of_any_other_tool_waits_for_a_person,
    a_machine_invokes_a_tool,
);

fn yaml(keys: &str) -> String {
    format!(
        r#"
        version: 1
        name: charging
        type: steps
        tools:
          payments.charge:
            parameters:
              type: object
              required: [sink, amount]
              properties: {{ sink: {{ type: string }}, amount: {{ type: integer }}, currency: {{ type: string, default: EUR }} }}
              additionalProperties: false
            result: {{ type: object, required: [id], properties: {{ id: {{ type: string }} }} }}
            {keys}
            do: {{ type: http, with: {{ method: POST, url: "${{{{ parameters.sink }}}}/charge" }} }}
        steps:
          - {{ id: charge, type: tool, tool: payments.charge, with: {{ sink: "${{{{ inputs.sink }}}}", amount: "${{{{ inputs.amount }}}}" }} }}
        outputs: {{ charge: "${{{{ nodes.charge.output.id }}}}" }}
        "#
    )
}

fn inputs(sink: &Sink) -> Value {
    json!({ "sink": sink.url(), "amount": 12 })
}

async fn a_tool_is_called_with_its_parameters_and_gives_its_result(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.answers("/charge", json!({ "id": "ch-1" }));
    let run = house.run(&yaml(""), inputs(&sink)).await;
    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(ended["output"], json!({ "charge": "ch-1" }));
    let sent = sink.at("/charge");
    assert_eq!(sent[0].body, json!({ "sink": sink.url(), "amount": 12, "currency": "EUR" }));
    house.close_with(&[&sink]).await;
}

async fn a_call_that_breaks_the_parameters_never_happens(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = house.run(&yaml(""), json!({ "sink": sink.url(), "amount": "twelve" })).await;
    house.wait_for_pause(&run, "step_failed").await;
    let error = house.get_step(&run, "charge").await["error"].clone();
    assert_eq!(
        (&error["type"], &error["details"][0]["pointer"]),
        (&json!("schema.input"), &json!("/amount"))
    );
    assert!(sink.effects().is_empty());
    house.close_with(&[&sink]).await;
}

async fn a_result_that_breaks_its_schema_is_told_where(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.answers("/charge", json!({ "id": 7 }));
    let run = house.run(&yaml(""), inputs(&sink)).await;
    house.wait_for_pause(&run, "step_failed").await;
    let error = house.get_step(&run, "charge").await["error"].clone();
    assert_eq!((&error["type"], &error["details"][0]["pointer"]), (&json!("schema.output"), &json!("/id")));
    house.close_with(&[&sink]).await;
}

async fn a_refusal_of_the_tool_is_an_error_of_its_own(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.refuses("/charge", 402, json!({ "code": "card_declined" }));
    let run = house.run(&yaml(""), inputs(&sink)).await;
    house.wait_for_pause(&run, "step_failed").await;
    let error = house.get_step(&run, "charge").await["error"].clone();
    assert_eq!(error["type"], "tool.payments.charge.card_declined");
    house.close_with(&[&sink]).await;
}

/// A house that was killed between the start of a call and its outcome, and is up again.
async fn interrupted(mode: Mode, keys: &str, sink: &Sink) -> (House, String) {
    let mut house = House::open(mode).await;
    sink.hangs("/charge");
    let run = house.run(&yaml(keys), inputs(sink)).await;
    sink.wait_for("/charge", 1).await;
    house.kill().await;
    sink.heals("/charge").answers("/charge", json!({ "id": "ch-1" }));
    house.rise().await;
    (house, run)
}

async fn a_lost_call_of_an_idempotent_tool_is_repeated_with_its_key(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = interrupted(mode, "idempotent: true", &sink).await;
    house.wait_for(&run, "completed").await;
    let calls = sink.at("/charge");
    assert_eq!((calls.len(), &calls[0].key), (2, &calls[1].key));
    assert_eq!(house.events(&run).await.count("run.paused"), 0);
    house.close_with(&[&sink]).await;
}

async fn a_lost_call_of_any_other_tool_waits_for_a_person(mode: Mode) {
    let sink = Sink::open().await;
    let (house, run) = interrupted(mode, "idempotent: false", &sink).await;
    house.wait_for_pause(&run, "engine_interrupted").await;
    assert_eq!(sink.at("/charge").len(), 1);
    house.resume(&run).await.ok();
    house.wait_for(&run, "completed").await;
    let calls = sink.at("/charge");
    assert_eq!((calls.len(), &calls[0].key), (2, &calls[1].key), "the same deed keeps its key");
    house.close_with(&[&sink]).await;
}

async fn a_machine_invokes_a_tool(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: counting
        type: machine
        context: { found: 0 }
        tools:
          stock.count: { do: { type: script, command: [echo, "12"] } }
        initial: counting
        states:
          counting:
            invoke:
              type: tool
              tool: stock.count
              on_done: { target: counted, actions: [{ assign: { found: "${{ output }}" } }] }
          counted: { type: final, output: { found: "${{ context.found }}" } }
    "#;
    let run = house.run(yaml, json!({})).await;
    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(ended["output"], json!({ "found": 12 }));
    house.close().await;
}
