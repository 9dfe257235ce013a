//! The inbox.

use axum::http::Method;
use serde_json::{Value, json};

use crate::house::{House, RUNS, gate, with_header, with_json};

fn nodes(page: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    page["items"].as_array().unwrap().iter().map(|it| (text(&it["run_id"]), text(&it["status"]))).collect()
}

#[tokio::test]
async fn the_inbox_shows_what_is_to_be_decided_and_by_whom() {
    let house = House::new();
    let mut spec = gate("ask");
    spec["steps"][0]["approvers"] = json!({"any_of": ["role:editor", "user:ada"], "min": 2});
    spec["steps"][0]["form"] = json!({"type": "object"});
    let run = house.run(&spec).await;
    let page = house.get("/v1/approvals").await.ok();
    let item = &page["items"][0];
    assert_eq!(
        (&item["run_id"], &item["workflow"], &item["node"], &item["attempt"]),
        (&json!(run), &json!("ask"), &json!("ok"), &json!(1))
    );
    assert_eq!((&item["show"], &item["status"]), (&json!({"text": "Shall it be?"}), &json!("open")));
    assert_eq!(
        (&item["approvers"], &item["min"], &item["form"]),
        (&json!(["role:editor", "user:ada"]), &json!(2), &json!({"type": "object"}))
    );
    assert_eq!((&item["granted_by"], &item["exclude_requester"]), (&json!([]), &json!(false)));
    assert_eq!(item["digest"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn the_inbox_says_who_has_approved_already_and_who_may_not() {
    let house = House::new();
    let mut spec = gate("ask");
    spec["steps"][0]["approvers"] = json!({"min": 2, "exclude_requester": true});
    let run = house.run(&spec).await;
    let shown = async || {
        let page = house.get("/v1/approvals").await.ok();
        (page["items"][0]["granted_by"].clone(), page["items"][0]["exclude_requester"].clone())
    };
    assert_eq!(shown().await, (json!([]), json!(true)));
    let approve = with_json(Method::POST, &format!("{RUNS}/{run}/approve"), &json!({"node": "ok"}));
    house.send(with_header(approve, "x-windlass-user", "ada")).await.ok();
    assert_eq!(shown().await, (json!(["user:ada"]), json!(true)));
}

#[tokio::test]
async fn open_and_decided_gates_are_told_apart() {
    let house = House::new();
    let granted = house.run(&gate("one")).await;
    let rejected = house.run(&gate("two")).await;
    let open = house.run(&gate("three")).await;
    house.command(&granted, "approve", json!({"node": "ok"})).await.ok();
    house.command(&rejected, "reject", json!({"node": "ok"})).await.ok();
    let of = |run: &str, status: &str| (run.to_owned(), status.to_owned());
    assert_eq!(nodes(&house.get("/v1/approvals").await.ok()), [of(&open, "open")]);
    let decided = nodes(&house.get("/v1/approvals?status=decided").await.ok());
    assert_eq!(decided, [of(&granted, "granted"), of(&rejected, "rejected")]);
    assert_eq!(
        house.get("/v1/approvals?status=decided").await.ok()["items"][0]["decided_by"],
        "user:anonymous"
    );

    let first = house.get("/v1/approvals?status=all&limit=2").await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = house.get(&format!("/v1/approvals?status=all&limit=2&cursor={cursor}")).await.ok();
    assert_eq!(nodes(&second), [of(&open, "open")]);
    assert_eq!(nodes(&house.get(&format!("/v1/approvals?run={granted}&status=all")).await.ok()).len(), 1);
    house.get("/v1/approvals?status=maybe").await.refused(422, "invalid_parameter");
    house.get("/v1/approvals?run=abc").await.refused(422, "invalid_parameter");
}
