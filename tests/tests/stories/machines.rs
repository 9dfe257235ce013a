//! State machines: an order that is told things, waits, tries again, and ends.

use scenarios::{House, Mode, in_every_mode};
use serde_json::json;

in_every_mode!(
    an_order_waits_for_its_event_charges_and_ends,
    leaving_a_state_stops_what_it_invoked,
    a_machine_waits_through_a_kill,
    an_event_must_be_known_and_fit_its_schema,
);

const ORDER: &str = r#"
version: 1
name: order
type: machine
context: { total: 0, tries: 0 }
events: { SUBMIT: { type: object, required: [total] }, CANCEL: {} }
initial: draft
on: { CANCEL: canceled }
states:
  draft:
    on: { SUBMIT: { target: charging, actions: { assign: { total: "${{ event.total }}" } } } }
  charging:
    entry: { assign: { tries: "${{ context.tries + 1 }}" } }
    invoke:
      type: transform
      output: { id: "${{ 'ch_' ~ context.tries }}", amount: "${{ context.total / (context.tries - 1) }}" }
      on_done: { target: paid, actions: { assign: { charge: "${{ output.id }}" } } }
      on_error: { match: [expression], guard: "${{ context.tries < 3 }}", target: backoff }
  backoff: { after: { 1s: charging } }
  paid: { type: final, output: { charge: "${{ context.charge }}" } }
  canceled: { type: final }
"#;

async fn an_order_waits_for_its_event_charges_and_ends(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(ORDER, json!({})).await;
    house.wait_for(&run, "waiting").await;
    let machine = house.get(&format!("/v1/workflow-runs/{run}/machine")).await.ok();
    assert_eq!((&machine["states"], &machine["context"]["total"]), (&json!(["draft"]), &json!(0)));
    let names: Vec<&str> =
        machine["events"].as_array().unwrap().iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["CANCEL", "SUBMIT"]);

    house.signal(&run, "SUBMIT", &json!({"total": 12})).await.ok();

    assert_eq!(house.wait_for(&run, "completed").await["output"], json!({"charge": "ch_2"}));
    let log = house.events(&run).await;
    let seen: Vec<String> = log
        .0
        .iter()
        .filter(|event| event.is("machine.transitioned"))
        .map(|event| format!("{} {}", event.body["event"].as_str().unwrap(), event.body["states"]))
        .collect();
    assert_eq!(
        seen,
        [
            r#"start ["draft"]"#,
            r#"SUBMIT ["charging"]"#,
            r#"error.invoke.charging ["backoff"]"#,
            r#"after.backoff ["charging"]"#,
            r#"done.invoke.charging ["paid"]"#
        ]
    );
    house.close().await;
}

async fn leaving_a_state_stops_what_it_invoked(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: long
        type: machine
        initial: busy
        states:
          busy: { invoke: { type: script, command: [sleep, "600"] }, on: { STOP: end } }
          end: { type: final, output: stopped }
    "#;
    let run = house.run(yaml, json!({})).await;
    house.wait_for_step(&run, "busy", "running").await;
    house.signal(&run, "STOP", &json!({})).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], "stopped");
    house.events(&run).await.first("step.canceled");
    house.close().await;
}

async fn a_machine_waits_through_a_kill(mode: Mode) {
    let mut house = House::open(mode).await;
    let run = house.run(ORDER, json!({})).await;
    house.wait_for(&run, "waiting").await;
    house.kill_and_rise().await;
    house.signal(&run, "CANCEL", &json!({})).await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn an_event_must_be_known_and_fit_its_schema(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(ORDER, json!({})).await;
    house.wait_for(&run, "waiting").await;
    house.signal(&run, "SUBMIT", &json!({})).await.refused(422, "invalid_payload");
    house.signal(&run, "SHIP", &json!({})).await.refused(409, "unknown_signal");
    house.close().await;
}
