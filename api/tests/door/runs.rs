//! Starting runs and looking at them.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use windlass_api::DoorOptions;

use crate::house::{House, NOBODY, RUNS, gate, quick, request, steps, with_header, with_json};

/// What differs from run to run, made equal.
pub(crate) fn still(mut value: Value) -> Value {
    fn visit(value: &mut Value) {
        match value {
            Value::Object(map) => map.iter_mut().for_each(|(key, value)| match value {
                Value::String(text) if key.ends_with("_at") => *text = "[time]".into(),
                Value::String(text) if key == "idempotency_key" => *text = "[key]".into(),
                Value::String(text) if key == "at" => *text = "[time]".into(),
                Value::String(text) if (key.ends_with("id") || key == "session") && text.len() == 36 => {
                    *text = "[id]".into()
                }
                value => visit(value),
            }),
            Value::Array(items) => items.iter_mut().for_each(visit),
            _ => {}
        }
    }
    visit(&mut value);
    value
}

#[tokio::test]
async fn a_run_begins_by_name_version_or_inline() {
    let house = House::new();
    house.publish(&quick("doc")).await;
    house.publish(&steps("doc", json!([{"id": "a", "type": "noop"}, {"id": "b", "type": "noop"}]))).await;
    for (body, version) in [
        (json!({"workflow": "doc"}), json!(2)),
        (json!({"workflow": "doc@1"}), json!(1)),
        (json!({"spec": quick("inline")}), json!(null)),
    ] {
        let answer = house.post(RUNS, body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let id = answer.body["id"].as_str().unwrap();
        assert_eq!(answer.header("location"), format!("{RUNS}/{id}"));
        let run = house.get(answer.header("location")).await.ok();
        assert_eq!((&run["version"], &run["status"]), (&version, &json!("queued")));
    }
}

#[tokio::test]
async fn a_run_shows_its_steps_attempts_and_values() {
    let house = House::new();
    let spec = steps(
        "story",
        json!([
            {"id": "draft", "type": "transform", "output": {"text": "words"}},
            {"id": "ask", "type": "approval", "show": {"text": "Publish?"}, "approvers": {"any_of": ["role:editor"]}},
            {"id": "publish", "type": "noop"}
        ]),
    );
    let body = json!({"spec": spec, "inputs": {"n": 1}, "labels": {"team": "docs"}, "priority": "high", "deadline": "2h"});
    let run = house.post(RUNS, body).await.ok();
    insta::assert_json_snapshot!("a_new_run", still(run.clone()));
    let id = run["id"].as_str().unwrap();
    house.drive(id).await;
    let run = house.get(&format!("{RUNS}/{id}")).await.ok();
    insta::assert_json_snapshot!("a_waiting_run", still(run));
    let log = house.get(&format!("{RUNS}/{id}/events")).await.ok();
    insta::assert_json_snapshot!("a_log", still(log));
    let refusal = house.command(id, "resume", json!({})).await.refused(409, "wrong_state");
    insta::assert_json_snapshot!("a_refused_command", still(refusal));
}

#[tokio::test]
async fn the_end_of_a_run_has_an_outcome() {
    let house = House::new();
    let run = async |on_error: &str| {
        let mut spec = steps("end", json!([{"id": "a", "type": "fail"}, {"id": "b", "type": "noop"}]));
        spec["on_error"] = on_error.into();
        let id = house.run(&spec).await;
        let run = house.get(&format!("{RUNS}/{id}")).await.ok();
        (run["status"].clone(), run["outcome"].clone(), run["error"]["type"].clone())
    };
    assert_eq!(run("continue").await, (json!("completed"), json!("partial_failure"), json!(null)));
    assert_eq!(run("fail").await.1, "failed");
    assert_eq!(run("pause").await, (json!("paused"), json!(null), json!(null)));
}

#[tokio::test]
async fn inputs_are_completed_and_checked() {
    let house = House::new();
    let mut spec = quick("sums");
    spec["inputs"] = json!({
        "type": "object", "required": ["n"], "additionalProperties": false,
        "properties": {"n": {"type": "integer", "maximum": 10}, "by": {"type": "integer", "default": 2}}
    });
    house.publish(&spec).await;
    for inputs in [json!({}), json!({"n": 11}), json!({"n": "1"}), json!({"n": 1, "x": 1})] {
        let problem = house.post(RUNS, json!({"workflow": "sums", "inputs": inputs})).await;
        let problem = problem.refused(422, "invalid_inputs");
        assert!(problem["errors"][0]["pointer"].as_str().unwrap().starts_with("/inputs"), "{problem}");
    }
    let run = house.post(RUNS, json!({"workflow": "sums", "inputs": {"n": 3}})).await.ok();
    let run = house.get(&format!("{RUNS}/{}", run["id"].as_str().unwrap())).await.ok();
    assert_eq!(run["inputs"], json!({"n": 3, "by": 2}));
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused_with_its_place() {
    let house = House::new();
    house.publish(&quick("doc")).await;
    let labels: serde_json::Map<String, Value> = (0..65).map(|n| (format!("k{n}"), "v".into())).collect();
    for (body, code, pointer) in [
        (json!({}), "invalid_body", ""),
        (json!({"workflow": "doc", "spec": quick("x")}), "invalid_body", ""),
        (json!({"workflow": "doc", "status": "completed"}), "invalid_body", "/status"),
        (json!({"workflow": "doc", "tenant_id": 2}), "invalid_body", "/tenant_id"),
        (json!({"workflow": 5}), "invalid_body", "/workflow"),
        (json!({"workflow": "doc", "inputs": [1]}), "invalid_body", "/inputs"),
        (json!({"workflow": "doc", "priority": "urgent"}), "invalid_body", "/priority"),
        (json!({"workflow": "doc", "labels": {"a b": "v"}}), "invalid_body", "/labels/a b"),
        (json!({"workflow": "doc", "labels": {"a/b": "v".repeat(256)}}), "invalid_body", "/labels/a~1b"),
        (json!({"workflow": "doc", "labels": labels}), "invalid_body", "/labels"),
        (json!({"workflow": "doc", "deadline": "9999-12-31T23:59:59Z"}), "invalid_body", "/deadline"),
        (json!({"workflow": "doc", "deadline": "2001-01-01T00:00:00Z"}), "invalid_body", "/deadline"),
        (json!({"workflow": "doc", "deadline": "-1h"}), "invalid_body", "/deadline"),
        (json!({"workflow": "nope"}), "unknown_workflow", "/workflow"),
        (json!({"workflow": "doc@2"}), "unknown_workflow", "/workflow"),
        (json!({"workflow": "doc@-1"}), "unknown_workflow", "/workflow"),
        (
            json!({"spec": steps("x", json!([{"id": "a", "type": "nope"}]))}),
            "invalid_workflow",
            "/spec/steps/0/type",
        ),
    ] {
        let problem = house.post(RUNS, body.clone()).await.refused(422, code);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    assert_eq!(house.get(RUNS).await.ok()["items"], json!([]), "nothing was started");
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_told_so_even_when_there_is_no_room() {
    let house = House::with(DoorOptions { open_runs_max: Some(0), ..DoorOptions::default() });
    house.publish(&quick("doc")).await;
    house.post(RUNS, json!({"workflow": "doc"})).await.refused(429, "quota");
    house.post(RUNS, json!({"spec": quick("own")})).await.refused(429, "quota");
    house.post(RUNS, json!({"workflow": "nope"})).await.refused(422, "unknown_workflow");
    house.post(RUNS, json!({})).await.refused(422, "invalid_body");
    let spec = steps("own", json!([{"id": "a", "type": "nope"}]));
    house.post(RUNS, json!({"spec": spec})).await.refused(422, "invalid_workflow");
}

#[tokio::test]
async fn a_run_that_its_group_refuses_takes_no_turn() {
    let house = House::new();
    let mut spec = gate("import");
    spec["rate_limit"] = json!({"runs": 2, "per": "1h", "on_limit": "reject"});
    spec["concurrency"] = json!({"group": "import-${{ inputs.of }}", "on_conflict": "reject"});
    house.publish(&spec).await;
    let start = async |inputs| house.post(RUNS, json!({"workflow": "import", "inputs": inputs})).await;
    let run = start(json!({"of": "a"})).await.ok()["id"].as_str().unwrap().to_owned();
    house.command(&run, "pause", json!({})).await.ok();
    for _ in 0..2 {
        start(json!({"of": "a"})).await.refused(409, "group_occupied");
        house.command(&run, "rerun", json!({})).await.refused(409, "group_occupied");
        house.command(&run, "rerun", json!({"inputs": {}})).await.refused(422, "no_group");
    }
    start(json!({"of": "b"})).await.ok();
    start(json!({"of": "c"})).await.refused(429, "rate_limited");
}

#[tokio::test]
async fn a_client_may_wait_for_the_end_or_until_a_person_is_needed() {
    let house = House::new();
    for (spec, status) in [
        (quick("ends"), "completed"),
        (steps("pauses", json!([{"id": "a", "type": "fail"}])), "paused"),
        (gate("asks"), "waiting"),
    ] {
        let create = with_header(with_json(Method::POST, RUNS, &json!({"spec": spec})), "prefer", "wait=30");
        let began = tokio::time::Instant::now();
        let (answer, ()) = tokio::join!(house.send(create), async {
            let run = house.rung().await[0];
            house.drive(&run.to_string()).await;
        });
        assert!(began.elapsed() < Duration::from_secs(20), "{status}: {:?}", began.elapsed());
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (201, "wait=30"));
        assert_eq!(answer.body["status"], status);
        assert_eq!(answer.header("location"), format!("{RUNS}/{}", answer.body["id"].as_str().unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time_and_shows_the_run_as_it_is() {
    let house = House::new();
    let run = house.run(&gate("parked")).await;
    let began = tokio::time::Instant::now();
    let shown = house.get(&format!("{RUNS}/{run}?wait=30s")).await.ok();
    assert_eq!((shown["status"].as_str(), began.elapsed().as_secs()), (Some("waiting"), 30));
    // However it is written.
    let began = tokio::time::Instant::now();
    house.get(&format!("{RUNS}/{run}?w%61it=20s")).await.ok();
    assert_eq!(began.elapsed().as_secs(), 20);
    // Nobody waits for what has ended.
    house.command(&run, "cancel", json!({})).await.ok();
    house.drive(&run).await;
    let began = tokio::time::Instant::now();
    house.get(&format!("{RUNS}/{run}?wait=60s")).await.ok();
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_large_value_is_a_reference_until_it_is_asked_for() {
    let house = House::new();
    let big = "x".repeat(100_000);
    let run = house.run(&steps("big", json!([{"id": "a", "type": "transform", "output": big}]))).await;
    let path = format!("{RUNS}/{run}");
    let shown = house.get(&path).await.ok();
    assert_eq!(shown["steps"][0]["output"]["$blob"]["size_bytes"], 100_002);
    let shown = house.get(&format!("{path}?payloads=full")).await.ok();
    assert_eq!(shown["steps"][0]["output"], big);
    assert_eq!(house.get(&format!("{path}/steps/a/output")).await.ok(), big);
    house.get(&format!("{path}?payloads=some")).await.refused(422, "invalid_parameter");
}

#[tokio::test]
async fn what_does_not_exist_looks_like_what_was_never_given_out() {
    let house = House::new();
    let mut bodies = Vec::new();
    for id in [
        NOBODY,
        "abc",
        "1",
        "%27%20or%201=1",
        "018900000000700080000000000000",
        "{01890000-0000-7000-8000-000000000000}",
    ] {
        for tail in [
            "",
            "/steps",
            "/events",
            "/explain",
            "/timeline",
            "/artifacts",
            "/artifacts/a/b",
            "/steps/a/output",
        ] {
            let mut problem = house.get(&format!("{RUNS}/{id}{tail}")).await.refused(404, "not_found");
            problem.as_object_mut().unwrap().remove("request_id");
            bodies.push(problem);
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    house.send(request(Method::GET, "/v2/nothing")).await.refused(404, "not_found");
}
