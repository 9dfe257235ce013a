//! Runs that go on from another one: beside it, or in its place; and runs whose state people edit.

use reqwest::Method;
use scenarios::{Answer, House, Mode, Sink, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_failed_run_is_run_again_from_where_it_failed,
    a_rerun_says_what_it_would_do_and_does_it_once,
    a_rerun_may_have_other_inputs_and_another_version,
    a_run_that_moves_is_not_run_again,
    a_moved_run_goes_on_under_the_new_version_and_the_old_one_ends,
    what_has_failed_is_tried_again_under_the_latest_version,
    who_takes_over_undoes_what_was_done_before,
    a_move_that_cannot_be_made_changes_nothing,
    a_person_says_what_a_failed_step_comes_to,
    a_gate_whose_step_was_edited_asks_nobody_any_more,
    who_asked_for_a_run_may_not_approve_it_after_a_move,
    what_is_asked_wrongly_is_refused,
);

const ORDER: &str = r#"
version: 1
name: order
type: steps
inputs: { type: object, required: [sink], properties: { sink: { type: string }, n: { type: integer, default: 1 } } }
steps:
  - { id: load, type: http, with: { method: POST, url: "${{ inputs.sink }}/load" } }
  - { id: pay, type: http, with: { method: POST, url: "${{ inputs.sink }}/pay" } }
  - { id: tell, type: transform, output: { n: "${{ inputs.n }}", paid: "${{ nodes.pay.output.status }}" } }
outputs: { told: "${{ nodes.tell.output }}" }
"#;

/// A run of `ORDER` whose second step has failed.
async fn stuck(house: &House, sink: &Sink) -> String {
    house.push(ORDER).await;
    sink.fails("/pay", 99, 500);
    let run = house.start("order", json!({"sink": sink.url()})).await;
    house.wait_for_pause(&run, "step_failed").await;
    run
}

async fn with_key(house: &House, run: &str, verb: &str, body: &Value) -> Answer {
    let path = format!("/v1/workflow-runs/{run}/{verb}");
    let request = house.request(Method::POST, &path).header("Idempotency-Key", "once").json(body);
    house.send(request).await.expect("the house answers")
}

fn id_of(continued: &Value) -> String {
    continued["run"]["id"].as_str().unwrap_or_else(|| panic!("no run in {continued}")).to_owned()
}

async fn a_failed_run_is_run_again_from_where_it_failed(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;
    sink.heals("/pay");

    let answer = house.command(&run, "rerun", &json!({"from": "pay"})).await;
    assert_eq!(answer.status, 201);
    let said = answer.ok();
    assert_eq!((&said["reused"], &said["runs"]), (&json!(["load"]), &json!(["pay", "tell"])));

    let again = house.wait_for(&id_of(&said), "completed").await;
    assert_eq!(again["output"], json!({"told": {"n": 1, "paid": 200}}));
    assert_eq!((&again["origin"]["run_id"], &again["origin"]["because"]), (&json!(run), &json!("rerun")));
    assert_eq!((&again["steps"][0]["reused"], &again["steps"][1]["reused"]), (&json!(true), &Value::Null));
    assert_eq!((sink.at("/load").len(), sink.at("/pay").len()), (1, 2));
    assert_eq!(house.get_run(&run).await["status"], "paused", "the run before stays as it is");
    house.cancel(&run).await.ok();
    house.close_with(&[&sink]).await;
}

async fn a_rerun_says_what_it_would_do_and_does_it_once(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;
    sink.heals("/pay");
    let before = house.all_runs().await.len();

    let said = house.command(&run, "rerun", &json!({"from": "pay", "dry_run": true})).await.ok();
    assert_eq!((&said["run"], &said["dry_run"], &said["version"]), (&Value::Null, &json!(true), &json!(1)));
    assert_eq!(house.all_runs().await.len(), before);

    let body = json!({"from": "pay"});
    let first = with_key(&house, &run, "rerun", &body).await.ok();
    house.kill_and_rise().await;
    let second = with_key(&house, &run, "rerun", &body).await;
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(second.ok(), first);
    house.wait_for(&id_of(&first), "completed").await;
    assert_eq!(house.all_runs().await.len(), before + 1);
    house.cancel(&run).await.ok();
    house.close_with(&[&sink]).await;
}

async fn a_rerun_may_have_other_inputs_and_another_version(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;
    house.push(&ORDER.replace("/pay\"", "/charge\"")).await;

    let body = json!({"from": "pay", "version": "latest", "inputs": {"sink": sink.url(), "n": 7}});
    let said = house.command(&run, "rerun", &body).await.ok();
    assert_eq!(said["version"], 2);
    let again = house.wait_for(&id_of(&said), "completed").await;

    assert_eq!(again["output"], json!({"told": {"n": 7, "paid": 200}}));
    assert_eq!((sink.at("/load").len(), sink.at("/charge").len()), (1, 1));
    house.cancel(&run).await.ok();
    house.close_with(&[&sink]).await;
}

async fn a_run_that_moves_is_not_run_again(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for_gate(&run, "ok").await;
    house.command(&run, "rerun", &json!({})).await.refused(409, "wrong_state");
    house.command(&run, "move", &json!({"version": 1})).await.refused(409, "wrong_state");
    house.command(&run, "state", &json!({"steps": {"ok": {"output": 1}}})).await.refused(409, "wrong_state");
    house.approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;

    let said = house.command(&run, "rerun", &json!({})).await.ok();
    assert_eq!(
        (&said["reused"], &said["version"]),
        (&json!([]), &Value::Null),
        "also of an inline definition"
    );
    let again = id_of(&said);
    house.wait_for_gate(&again, "ok").await;
    house.approve(&again, "ok").await.ok();
    house.wait_for(&again, "completed").await;
    house.close().await;
}

async fn a_moved_run_goes_on_under_the_new_version_and_the_old_one_ends(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;
    house.push(&ORDER.replace("/pay\"", "/charge\"")).await;

    let said = house.command(&run, "move", &json!({"version": 2, "dry_run": true})).await.ok();
    assert_eq!((&said["reused"], &said["runs"]), (&json!(["load"]), &json!(["pay", "tell"])));
    assert_eq!(house.get_run(&run).await["status"], "paused");

    let answer = with_key(&house, &run, "move", &json!({"version": 2})).await;
    assert_eq!(answer.status, 201);
    let said = answer.ok();
    let new = id_of(&said);
    let replayed = with_key(&house, &run, "move", &json!({"version": 2})).await;
    assert_eq!(replayed.ok(), said);

    let old = house.wait_for(&run, "canceled").await;
    assert_eq!(old["moved_to"], json!(new));
    let moved = house.wait_for(&new, "completed").await;
    assert_eq!((&moved["origin"]["run_id"], &moved["origin"]["because"]), (&json!(run), &json!("move")));
    assert_eq!((sink.at("/load").len(), sink.at("/charge").len()), (1, 1));
    house.command(&run, "move", &json!({"version": 1})).await.refused(409, "run_terminal");
    house.close_with(&[&sink]).await;
}

async fn what_has_failed_is_tried_again_under_the_latest_version(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;
    house.push(&ORDER.replace("/pay\"", "/charge\"")).await;
    for body in [json!({"version": "latest", "node": "pay"}), json!({"version": "newest"})] {
        house.command(&run, "retry", &body).await.refused(422, "invalid_body");
    }

    let answer = with_key(&house, &run, "retry", &json!({"version": "latest"})).await;
    assert_eq!(answer.status, 201);
    let said = answer.ok();
    assert_eq!((&said["reused"], &said["runs"]), (&json!(["load"]), &json!(["pay", "tell"])));
    assert_eq!(with_key(&house, &run, "retry", &json!({"version": "latest"})).await.ok(), said);

    let new = id_of(&said);
    assert_eq!(house.wait_for(&run, "canceled").await["moved_to"], json!(new));
    house.wait_for(&new, "completed").await;
    assert_eq!((sink.at("/load").len(), sink.at("/charge").len()), (1, 1));
    house.command(&new, "retry", &json!({"version": "latest"})).await.refused(409, "run_terminal");
    house.close_with(&[&sink]).await;
}

async fn who_takes_over_undoes_what_was_done_before(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let undone = ORDER.replace(
        "url: \"${{ inputs.sink }}/load\" } }",
        "url: \"${{ inputs.sink }}/load\" }, compensate: { type: http, with: { method: POST, url: \"${{ inputs.sink }}/unload\" } } }",
    );
    house.push(&undone).await;
    sink.fails("/pay", 99, 500);
    let run = house.start("order", json!({"sink": sink.url()})).await;
    house.wait_for_pause(&run, "step_failed").await;
    house.push(&undone.replace("type: steps", "type: steps\non_error: fail")).await;

    let said = house.command(&run, "move", &json!({"version": "latest"})).await.ok();
    house.wait_for(&id_of(&said), "failed").await;

    assert_eq!((sink.at("/load").len(), sink.at("/unload").len()), (1, 1), "by the new run, and only by it");
    house.close_with(&[&sink]).await;
}

async fn a_move_that_cannot_be_made_changes_nothing(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;
    let problem = house.command(&run, "move", &json!({"version": 9})).await.refused(422, "unknown_workflow");
    assert_eq!(problem["errors"][0]["pointer"], "/version");
    for body in [json!({}), json!({"version": "newest"}), json!({"version": 1, "from": "pay"})] {
        house.command(&run, "move", &body).await.refused(422, "invalid_body");
    }
    let inline = house.run(ORDER, json!({"sink": sink.url()})).await;
    house.wait_for_pause(&inline, "step_failed").await;
    house.command(&inline, "move", &json!({"version": "latest"})).await.refused(422, "invalid_body");
    for run in [&run, &inline] {
        assert_eq!(house.get_run(run).await["status"], "paused");
        house.cancel(run).await.ok();
    }
    house.close_with(&[&sink]).await;
}

async fn a_person_says_what_a_failed_step_comes_to(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;

    let receipt =
        house.command(&run, "state", &json!({"steps": {"pay": {"output": {"status": 299}}}})).await.ok();
    assert_eq!(receipt["status"], "paused");
    house.kill_and_rise().await;
    assert_eq!(house.get_step(&run, "pay").await["status"], "succeeded");
    house.resume(&run).await.ok();

    let done = house.wait_for(&run, "completed").await;
    assert_eq!(done["output"], json!({"told": {"n": 1, "paid": 299}}));
    let log = house.events(&run).await;
    assert_eq!(log.count("step.edited"), 1, "{log}");
    assert_eq!(sink.at("/pay").len(), 1);
    house.close_with(&[&sink]).await;
}

async fn a_gate_whose_step_was_edited_asks_nobody_any_more(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: gate, type: steps, steps: [ { id: ok, type: approval } ], \
                outputs: '${{ nodes.ok.output }}' }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for_gate(&run, "ok").await;
    house.pause(&run).await.ok();
    house.wait_for_pause(&run, "requested").await;

    let open = format!("/v1/approvals?run={run}&status=open");
    assert_eq!(house.get(&open).await.ok()["items"].as_array().unwrap().len(), 1);

    house.command(&run, "state", &json!({"steps": {"ok": {"output": "agreed by phone"}}})).await.ok();

    assert_eq!(house.get(&open).await.ok()["items"], json!([]), "nobody is asked any more");
    let late = json!({"node": "ok", "attempt": 1});
    house.command(&run, "approve", &late).await.refused(409, "wrong_state");
    house.resume(&run).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], "agreed by phone");
    house.close().await;
}

async fn who_asked_for_a_run_may_not_approve_it_after_a_move(mode: Mode) {
    let house = House::open(mode).await;
    let (rita, ada) = (house.client().as_user("rita", &[]), house.client().as_user("ada", &[]));
    let yaml = "{ version: 1, name: claim, type: steps, steps: [ \
                { id: ok, type: approval, approvers: { exclude_requester: true } } ] }";
    house.push(yaml).await;
    let run = rita.start("claim", json!({})).await;
    house.wait_for_gate(&run, "ok").await;
    ada.pause(&run).await.ok();
    house.wait_for_pause(&run, "requested").await;
    house.push(&yaml.replace("steps: [ ", "steps: [ { id: first, type: noop }, ")).await;

    let moved = id_of(&ada.command(&run, "move", &json!({"version": "latest"})).await.ok());

    house.wait_for_gate(&moved, "ok").await;
    assert_eq!(house.get_run(&moved).await["created_by"]["id"], "rita", "it is still her run");
    rita.approve(&moved, "ok").await.refused(403, "not_an_approver");
    ada.approve(&moved, "ok").await.ok();
    house.wait_for(&moved, "completed").await;
    house.close().await;
}

async fn what_is_asked_wrongly_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = stuck(&house, &sink).await;
    let before = house.events(&run).await.0.len();
    for (verb, body, pointer) in [
        ("rerun", json!({"from": "nowhere"}), "/from"),
        ("rerun", json!({"version": 1.5}), "/version"),
        ("rerun", json!({"colour": "red"}), "/colour"),
        ("rerun", json!({"deadline": "yesterday"}), "/deadline"),
        ("state", json!({}), ""),
        ("state", json!({"steps": {"nowhere": {"output": 1}}}), "/steps/nowhere"),
        ("state", json!({"steps": {"pay": {}}}), "/steps/pay"),
    ] {
        let answer = house.command(&run, verb, &body).await;
        let problem = answer.refused(422, "invalid_body");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{verb} {body}: {problem}");
    }
    let bad = json!({"inputs": {"sink": 5}});
    house.command(&run, "rerun", &bad).await.refused(422, "invalid_inputs");
    house.command(&run, "state", &json!({"context": {"n": 1}})).await.refused(409, "wrong_state");
    assert_eq!(house.events(&run).await.0.len(), before);
    house.cancel(&run).await.ok();
    house.close_with(&[&sink]).await;
}
