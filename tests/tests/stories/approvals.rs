//! Gates: who may open them, what they bind, when they end by themselves.

use scenarios::{House, Mode, Sink, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    an_approval_node_waits_for_a_person_and_tells_who_it_was,
    a_gate_before_a_step_lets_it_through,
    a_rejected_gate_is_an_error_of_its_step,
    two_different_people_must_approve,
    only_approvers_may_decide,
    whoever_asked_may_not_approve_where_four_eyes_are_needed,
    a_form_must_fit_its_schema,
    an_approval_binds_the_attempt_and_what_was_shown,
    an_approval_before_its_gate_is_refused,
    a_repeated_approval_is_answered_again_or_refused,
    resume_does_not_open_a_gate_and_approve_does_not_resume,
    ten_people_who_decide_at_once_make_one_decision,
    an_open_gate_survives_a_kill,
    a_gate_approves_by_itself_when_its_condition_holds,
    the_inbox_lists_what_is_open,
    a_gate_given_while_the_run_is_paused_counts_after_the_resume,
);

const ASK: &str = r#"
version: 1
name: ask
type: steps
steps:
  - id: ok
    type: approval
    approvers: { any_of: [role:editor, user:ada] }
    show: { text: "Publish ${{ inputs.what }}?" }
    form: { type: object, properties: { note: { type: string, maxLength: 20 } }, additionalProperties: false }
outputs: "${{ nodes.ok.output }}"
"#;

async fn asked(house: &House) -> (String, Value) {
    let run = house.as_user("maker", &[]).run(ASK, json!({"what": "it"})).await;
    let gate = house.wait_for_gate(&run, "ok").await;
    (run, gate)
}

fn verdict(gate: &Value) -> Value {
    json!({"node": "ok", "attempt": gate["attempt"]})
}

async fn an_approval_node_waits_for_a_person_and_tells_who_it_was(mode: Mode) {
    let house = House::open(mode).await;
    let (run, gate) = asked(&house).await;
    assert_eq!(house.wait_for(&run, "waiting").await["steps"][0]["status"], "waiting");
    assert_eq!(gate["show"], json!({"text": "Publish it?"}));

    let body = json!({"node": "ok", "attempt": gate["attempt"], "digest": gate["digest"],
                      "comment": "Go ahead", "form": {"note": "fine"}});
    house.as_user("ada", &[]).command(&run, "approve", &body).await.ok();

    let output = house.wait_for(&run, "completed").await["output"].clone();
    assert_eq!(output["decision"], "approved");
    assert_eq!(output["by"], json!(["ada"]));
    assert_eq!((&output["comment"], &output["form"]), (&json!("Go ahead"), &json!({"note": "fine"})));
    let log = house.events(&run).await;
    let granted = log.first("approval.granted");
    assert_eq!(granted.body["actor"]["id"], "ada");
    assert_eq!(output["at"], granted.at_text());
    house.close().await;
}

async fn a_gate_before_a_step_lets_it_through(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/publish", 1, 503);
    let yaml = r#"
        version: 1
        name: publish
        type: steps
        steps:
          - { id: draft, type: transform, output: "words" }
          - id: publish
            type: http
            with: { method: POST, url: "${{ inputs.sink }}/publish", json: "${{ nodes.draft.output }}" }
            approval: { approvers: { any_of: [role:editor] }, show: "${{ nodes.draft.output }}" }
            retry: { max_attempts: 2, backoff: { initial: 10ms } }
    "#;
    let run = house.run(yaml, json!({"sink": sink.url()})).await;
    assert_eq!(house.wait_for_gate(&run, "publish").await["show"], "words");
    assert_eq!(sink.effects().len(), 0, "nothing happens before the gate opens");

    house.as_user("ed", &["editor"]).approve(&run, "publish").await.ok();

    house.wait_for(&run, "completed").await;
    assert_eq!(sink.at("/publish").len(), 2);
    let log = house.events(&run).await;
    assert_eq!(log.count("approval.requested"), 1, "the gate covers retries that follow by themselves");
    house.close_with(&[&sink]).await;
}

async fn a_rejected_gate_is_an_error_of_its_step(mode: Mode) {
    let house = House::open(mode).await;
    let (run, gate) = asked(&house).await;
    let body = json!({"node": "ok", "attempt": gate["attempt"], "comment": "Not yet"});

    house.as_user("ada", &[]).command(&run, "reject", &body).await.ok();

    house.wait_for_pause(&run, "step_failed").await;
    let step = house.get_step(&run, "ok").await;
    assert_eq!(step["error"]["type"], "rejected");
    assert!(step["error"]["message"].as_str().unwrap_or_default().contains("Not yet"), "{step}");

    // A person's retry asks anew, and the second answer counts.
    house.retry(&run, "ok").await.ok();
    house.as_user("ada", &[]).approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;
    assert_eq!(house.events(&run).await.count("approval.requested"), 2);
    house.close().await;
}

async fn two_different_people_must_approve(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: two, type: steps, steps: [ { id: ok, type: approval, approvers: { min: 2 } } ] }";
    let run = house.as_user("maker", &[]).run(yaml, json!({})).await;
    let [ada, bo] = ["ada", "bo"].map(|user| house.as_user(user, &[]));

    ada.approve(&run, "ok").await.ok();
    assert_eq!(house.wait_for_gate(&run, "ok").await["granted_by"], json!(["ada"]));
    ada.approve(&run, "ok").await.refused(409, "already_decided");
    assert_eq!(house.get_run(&run).await["status"], "waiting");
    bo.approve(&run, "ok").await.ok();

    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn only_approvers_may_decide(mode: Mode) {
    let house = House::open(mode).await;
    let (run, gate) = asked(&house).await;
    for (user, roles) in [("eve", &[][..]), ("eve", &["viewer"]), ("editor", &[]), ("role:editor", &[])] {
        let eve = house.as_user(user, roles);
        for verb in ["approve", "reject"] {
            eve.command(&run, verb, &verdict(&gate)).await.refused(403, "not_an_approver");
        }
    }
    house.command(&run, "approve", &verdict(&gate)).await.refused(403, "not_an_approver");
    assert_eq!(house.events(&run).await.count("approval.granted"), 0);

    house.as_user("eve", &["viewer", "editor"]).approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn whoever_asked_may_not_approve_where_four_eyes_are_needed(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: eyes, type: steps, steps: [ \
                { id: ok, type: approval, approvers: { exclude_requester: true } } ] }";
    let run = house.as_user("maker", &[]).run(yaml, json!({})).await;

    house.as_user("maker", &["admin"]).approve(&run, "ok").await.refused(403, "not_an_approver");
    house.as_user("other", &[]).approve(&run, "ok").await.ok();

    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_form_must_fit_its_schema(mode: Mode) {
    let house = House::open(mode).await;
    let (run, gate) = asked(&house).await;
    let ada = house.as_user("ada", &[]);
    for form in [json!({"note": 5}), json!({"note": "x".repeat(21)}), json!({"other": 1}), json!([])] {
        let body = json!({"node": "ok", "attempt": gate["attempt"], "form": form});
        ada.command(&run, "approve", &body).await.refused(422, "invalid_payload");
    }
    assert_eq!(house.get_run(&run).await["status"], "waiting");
    let body = json!({"node": "ok", "attempt": gate["attempt"], "form": {"note": "ok"}});
    ada.command(&run, "approve", &body).await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn an_approval_binds_the_attempt_and_what_was_shown(mode: Mode) {
    let house = House::open(mode).await;
    let (run, first) = asked(&house).await;
    let ada = house.as_user("ada", &[]);
    let other_digest = "0".repeat(64);
    let changed = json!({"node": "ok", "attempt": first["attempt"], "digest": other_digest});
    ada.command(&run, "approve", &changed).await.refused(409, "stale_approval");
    let later = json!({"node": "ok", "attempt": first["attempt"].as_u64().map(|n| n + 1)});
    ada.command(&run, "approve", &later).await.refused(409, "stale_approval");

    // The next attempt asks anew: an answer to the first is an answer to nothing.
    ada.reject(&run, "ok").await.ok();
    house.wait_for_pause(&run, "step_failed").await;
    house.retry(&run, "ok").await.ok();
    let second = house.wait_for_gate(&run, "ok").await;
    assert_ne!(second["attempt"], first["attempt"]);
    ada.command(&run, "approve", &verdict(&first)).await.refused(409, "stale_approval");
    assert_eq!(house.get_run(&run).await["status"], "waiting");

    ada.command(&run, "approve", &verdict(&second)).await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn an_approval_before_its_gate_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: later, type: steps, steps: [ \
                { id: hold, type: signal, name: go }, { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "waiting").await;

    let early = json!({"node": "ok", "attempt": 1});
    house.command(&run, "approve", &early).await.refused(409, "stale_approval");
    let elsewhere = json!({"node": "hold", "attempt": 1});
    house.command(&run, "approve", &elsewhere).await.refused(409, "stale_approval");
    let nowhere = json!({"node": "nowhere", "attempt": 1});
    assert_eq!(house.command(&run, "approve", &nowhere).await.status, 422);

    house.signal(&run, "go", &json!(null)).await.ok();
    house.approve(&run, "ok").await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_repeated_approval_is_answered_again_or_refused(mode: Mode) {
    let house = House::open(mode).await;
    let (run, gate) = asked(&house).await;
    let ada = house.as_user("ada", &[]);
    let path = format!("/v1/workflow-runs/{run}/approve");

    let first = ada.insist(&path, "captured", &verdict(&gate)).await;
    assert!(first.is_ok(), "{first}");
    house.wait_for(&run, "completed").await;
    let again = ada.insist(&path, "captured", &verdict(&gate)).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("idempotency-replayed"), "true");
    ada.insist(&path, "another", &verdict(&gate)).await.refused(409, "already_decided");
    let mut other = verdict(&gate);
    other["comment"] = "changed".into();
    ada.insist(&path, "captured", &other).await.refused(422, "idempotency_key_reused");

    assert_eq!(house.events(&run).await.count("approval.granted"), 1);
    house.close().await;
}

async fn resume_does_not_open_a_gate_and_approve_does_not_resume(mode: Mode) {
    let house = House::open(mode).await;
    let (run, _) = asked(&house).await;
    let refusal = house.resume(&run).await.refused(409, "wrong_state");
    assert_eq!(refusal["run_status"], "waiting");
    house.cancel(&run).await.ok();

    let sink = Sink::open().await;
    sink.fails("/call", 1, 500);
    let yaml = "{ version: 1, name: red, type: steps, steps: [ \
                { id: call, type: http, with: { url: '${{ inputs.sink }}/call' } } ] }";
    let red = house.run(yaml, json!({"sink": sink.url()})).await;
    house.wait_for_pause(&red, "step_failed").await;
    let body = json!({"node": "call", "attempt": 1});
    house.command(&red, "approve", &body).await.refused(409, "wrong_state");
    assert_eq!(house.get_run(&red).await["status"], "paused");
    house.close_with(&[&sink]).await;
}

async fn ten_people_who_decide_at_once_make_one_decision(mode: Mode) {
    let house = House::open(mode).await;
    for _ in 0..10 {
        let (run, gate) = asked(&house).await;
        let people = (0..10).map(|n| {
            let person = house.as_user(&format!("p{n}"), &["editor"]);
            let (run, body) = (run.clone(), verdict(&gate));
            let verb = if n % 2 == 0 { "approve" } else { "reject" };
            async move { (verb, person.command(&run, verb, &body).await) }
        });
        let answers = futures::future::join_all(people).await;
        let accepted: Vec<_> = answers.iter().filter(|(_, answer)| answer.is_ok()).collect();
        assert_eq!(accepted.len(), 1, "{answers:?}");
        for (_, answer) in answers.iter().filter(|(_, answer)| !answer.is_ok()) {
            answer.clone().refused(409, "already_decided");
        }
        match accepted[0].0 {
            "approve" => house.wait_for(&run, "completed").await,
            _ => house.wait_for_pause(&run, "step_failed").await,
        };
    }
    house.close().await;
}

async fn an_open_gate_survives_a_kill(mode: Mode) {
    let mut house = House::open(mode).await;
    let (run, gate) = asked(&house).await;

    house.kill_and_rise().await;

    assert_eq!(house.wait_for_gate(&run, "ok").await, gate);
    house.as_user("ada", &[]).approve(&run, "ok").await.ok();
    house.kill_and_rise().await;
    house.wait_for(&run, "completed").await;
    house.close().await;
}

async fn a_gate_approves_by_itself_when_its_condition_holds(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: auto
        type: steps
        steps:
          - { id: ok, type: approval, auto_approve_if: "${{ inputs.total <= 200 }}" }
        outputs: "${{ nodes.ok.output.decision }}"
    "#;
    house.push(yaml).await;
    let small = house.start("auto", json!({"total": 100})).await;
    assert_eq!(house.wait_for(&small, "completed").await["output"], "auto_approved");
    let large = house.start("auto", json!({"total": 300})).await;
    house.approve(&large, "ok").await.ok();
    assert_eq!(house.wait_for(&large, "completed").await["output"], "approved");
    house.close().await;
}

async fn the_inbox_lists_what_is_open(mode: Mode) {
    let house = House::open(mode).await;
    let (first, _) = asked(&house).await;
    let (second, _) = asked(&house).await;
    let open = |page: Value| -> Vec<(Value, Value)> {
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| (item["run_id"].clone(), item["show"]["text"].clone())).collect()
    };

    let text = json!("Publish it?");
    let both = open(house.get("/v1/approvals").await.ok());
    assert_eq!(both, [(json!(first), text.clone()), (json!(second), text.clone())]);

    house.as_user("ada", &[]).approve(&first, "ok").await.ok();
    house.wait_for(&first, "completed").await;
    assert_eq!(open(house.get("/v1/approvals").await.ok()), [(json!(second), text)]);
    let decided = house.get("/v1/approvals?status=decided").await.ok();
    assert_eq!(decided["items"][0]["run_id"], json!(first));
    house.cancel(&second).await.ok();
    house.wait_for(&second, "canceled").await;
    assert_eq!(open(house.get("/v1/approvals").await.ok()), []);
    house.close().await;
}

async fn a_gate_given_while_the_run_is_paused_counts_after_the_resume(mode: Mode) {
    let house = House::open(mode).await;
    let (run, gate) = asked(&house).await;
    house.pause(&run).await.ok();
    house.wait_for_pause(&run, "requested").await;

    house.as_user("ada", &[]).command(&run, "approve", &verdict(&gate)).await.ok();

    assert_eq!(house.get_run(&run).await["status"], "paused");
    house.resume(&run).await.ok();
    house.wait_for(&run, "completed").await;
    house.close().await;
}
