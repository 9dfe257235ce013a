//! What people ask of a run under way.

use serde_json::json;

use crate::house::{House, NOBODY, RUNS, gate, quick, steps};

#[tokio::test]
async fn a_run_is_paused_and_resumed_once_each() {
    let house = House::new();
    let run = house.start(&quick("p")).await;
    let receipt = house.command(&run, "pause", json!({})).await.ok();
    assert_eq!(
        (&receipt["status"], &receipt["paused_reason"], &receipt["seq"]),
        (&json!("paused"), &json!("requested"), &json!(2))
    );
    let refusal = house.command(&run, "pause", json!({})).await.refused(409, "wrong_state");
    assert_eq!(refusal["run_status"], "paused");
    assert_eq!(house.command(&run, "resume", json!({})).await.ok()["status"], "queued");
    house.command(&run, "resume", json!({})).await.refused(409, "wrong_state");
    house.drive(&run).await;
    assert_eq!(house.status(&run).await, "completed");
    for verb in ["pause", "resume", "cancel", "retry"] {
        let refusal = house.command(&run, verb, json!({})).await.refused(409, "run_terminal");
        assert_eq!(refusal["run_status"], "completed");
    }
}

#[tokio::test]
async fn a_command_needs_no_body_where_it_has_nothing_to_say() {
    let house = House::new();
    let run = house.start(&quick("p")).await;
    for verb in ["pause", "resume", "cancel"] {
        let request = crate::house::request(axum::http::Method::POST, &format!("{RUNS}/{run}/{verb}"));
        house.send(request).await.ok();
    }
    assert_eq!(house.status(&run).await, "canceling");
}

#[tokio::test]
async fn a_gate_is_decided_by_the_right_people_once() {
    let house = House::new();
    let mut spec = gate("ask");
    spec["steps"][0]["approvers"] = json!({"any_of": ["role:editor"]});
    spec["steps"][0]["form"] = json!({"type": "object", "properties": {"note": {"type": "string"}}});
    let run = house.run(&spec).await;
    let path = format!("{RUNS}/{run}/approve");
    let verdict = json!({"node": "ok", "attempt": 1, "comment": "fine", "form": {"note": "yes"}});

    house.post(&path, verdict.clone()).await.refused(403, "not_an_approver");
    let as_editor = async |body: &serde_json::Value| {
        let request = crate::house::with_json(axum::http::Method::POST, &path, body);
        let request = crate::house::with_header(request, "x-windlass-user", "ada");
        house.send(crate::house::with_header(request, "x-windlass-roles", "viewer, editor")).await
    };
    as_editor(&json!({"node": "ok", "attempt": 2})).await.refused(409, "stale_approval");
    as_editor(&json!({"node": "ok", "attempt": 1, "digest": "00"})).await.refused(409, "stale_approval");
    let problem = as_editor(&json!({"node": "ok", "attempt": 1, "form": {"note": 5}})).await;
    let problem = problem.refused(422, "invalid_payload");
    assert_eq!(problem["errors"][0]["pointer"], "/form/note", "{problem}");
    as_editor(&verdict).await.ok();
    as_editor(&verdict).await.refused(409, "already_decided");
    house.drive(&run).await;
    let run = house.get(&format!("{RUNS}/{run}")).await.ok();
    assert_eq!((&run["status"], &run["steps"][0]["output"]["by"]), (&json!("completed"), &json!(["ada"])));
}

#[tokio::test]
async fn a_verdict_without_an_attempt_means_the_open_gate() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    house.command(&run, "reject", json!({"node": "ok"})).await.ok();
    house.drive(&run).await;
    assert_eq!(house.status(&run).await, "paused");
    house.command(&run, "retry", json!({"node": "ok"})).await.ok();
    house.drive(&run).await;
    house.command(&run, "approve", json!({"node": "ok"})).await.ok();
    house.drive(&run).await;
    assert_eq!(house.status(&run).await, "completed");
}

#[tokio::test]
async fn a_failed_step_is_retried_or_skipped() {
    let house = House::new();
    let run = house.run(&steps("f", json!([{"id": "a", "type": "fail"}, {"id": "b", "type": "noop"}]))).await;
    house.command(&run, "skip", json!({"node": "b"})).await;
    house.command(&run, "retry", json!({"node": "b"})).await.refused(409, "wrong_step_state");
    house.command(&run, "retry", json!({})).await.ok();
    house.drive(&run).await;
    assert_eq!(house.get(&format!("{RUNS}/{run}")).await.ok()["steps"][0]["attempt"], 2);
    house.command(&run, "skip", json!({"node": "a"})).await.ok();
    house.drive(&run).await;
    assert_eq!(house.status(&run).await, "completed");
}

#[tokio::test]
async fn a_node_that_does_not_exist_is_told_with_its_place() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    for verb in ["approve", "reject", "skip", "retry"] {
        let problem = house.command(&run, verb, json!({"node": "ghost"})).await.refused(422, "invalid_body");
        assert_eq!(problem["errors"][0]["pointer"], "/node", "{verb}");
    }
}

#[tokio::test]
async fn a_signal_carries_any_json() {
    let house = House::new();
    let spec = steps(
        "s",
        json!([{"id": "hear", "type": "signal", "name": "paid", "schema": {"type": ["object", "null", "string"]}}]),
    );
    for (payload, output) in [("{\"n\": 1}", json!({"n": 1})), ("", json!(null)), ("\"text\"", json!("text"))]
    {
        let run = house.run(&spec).await;
        house.post_text(&format!("{RUNS}/{run}/signals/paid"), "application/json", payload).await.ok();
        house.drive(&run).await;
        assert_eq!(house.get(&format!("{RUNS}/{run}/steps/hear/output")).await.ok(), output);
    }
    let run = house.run(&spec).await;
    let problem = house.post(&format!("{RUNS}/{run}/signals/paid"), json!([])).await;
    let problem = problem.refused(422, "invalid_payload");
    assert_eq!(problem["errors"][0]["pointer"], "", "{problem}");
    house.post(&format!("{RUNS}/{run}/signals/other"), json!({})).await.refused(409, "unknown_signal");
    house.post(&format!("{RUNS}/{run}/signals/%20"), json!({})).await.refused(422, "invalid_parameter");
    let big = json!({"text": "x".repeat(100_000)});
    house.post(&format!("{RUNS}/{run}/signals/paid"), big.clone()).await.ok();
    house.drive(&run).await;
    assert_eq!(house.get(&format!("{RUNS}/{run}/steps/hear/output")).await.ok(), big);
}

#[tokio::test]
async fn fields_of_no_command_are_refused() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    for (verb, body) in [
        ("pause", json!({"status": "completed"})),
        ("resume", json!([])),
        ("cancel", json!({"reason": 5})),
        ("cancel", json!({"reason": "x".repeat(4001)})),
        ("approve", json!({"node": "ok", "attempt": 1, "approved_by": "eve"})),
        ("approve", json!({"node": "ok", "attempt": -1})),
        ("approve", json!({"attempt": 1})),
        ("skip", json!({})),
        ("retry", json!({"node": "ok", "epoch": 1})),
    ] {
        house.command(&run, verb, body).await.refused(422, "invalid_body");
    }
    house.command(NOBODY, "cancel", json!({})).await.refused(404, "not_found");
    house.command("nonsense", "cancel", json!({})).await.refused(404, "not_found");
    assert_eq!(house.status(&run).await, "waiting");
}

#[tokio::test]
async fn a_command_rings_for_a_parked_run_and_pokes_the_holder_of_a_held_one() {
    let house = House::new();
    let parked = house.run(&gate("ask")).await;
    house.rung().await;
    house.command(&parked, "approve", json!({"node": "ok"})).await.ok();
    assert_eq!(house.rung().await[0].to_string(), parked);

    let held = house.start(&steps("h", json!([{"id": "a", "type": "hang"}]))).await;
    house.rung().await;
    let _held = house.hold(&held).await.expect("nobody else takes it");
    house.command(&held, "cancel", json!({})).await.ok();
    assert_eq!(house.poked().await.to_string(), held);
    assert_eq!(house.status(&held).await, "canceling");
}

#[tokio::test]
async fn of_many_commands_at_once_each_is_decided_on_what_came_before() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let pauses = futures::future::join_all((0..12).map(|_| house.command(&run, "pause", json!({})))).await;
    assert_eq!(pauses.iter().filter(|answer| answer.status.is_success()).count(), 1);
    for refused in pauses.into_iter().filter(|answer| !answer.status.is_success()) {
        refused.refused(409, "wrong_state");
    }
}
