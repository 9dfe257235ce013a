//! Lists: filters mean what they say, pages follow each other, cursors cannot be bent.

use serde_json::{Value, json};

use crate::house::{House, NOBODY, RUNS, quick};

fn names(page: &Value, key: &str) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|it| it[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_show_every_run_once_newest_first() {
    let house = House::new();
    house.publish(&quick("doc")).await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        let run = house.post(RUNS, json!({"workflow": "doc"})).await.ok();
        expected.insert(0, run["id"].as_str().unwrap().to_owned());
    }
    let mut seen = Vec::new();
    let mut path = format!("{RUNS}?limit=3");
    loop {
        let page = house.get(&path).await.ok();
        seen.extend(names(&page, "id"));
        // A newcomer pushes nothing from one page to the next.
        house.post(RUNS, json!({"workflow": "doc"})).await.ok();
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{RUNS}?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn runs_are_found_by_what_they_carry_and_text_is_literal() {
    let house = House::new();
    house.publish(&quick("red-apple")).await;
    house.publish(&quick("pear")).await;
    for (workflow, labels) in [
        ("red-apple", json!({"team": "red", "env": "prod"})),
        ("red-apple", json!({"team": "red", "env": "100%_sure"})),
        ("pear", json!({"note": "'; drop table workflow_runs; --"})),
    ] {
        house.post(RUNS, json!({"workflow": workflow, "labels": labels})).await.ok();
    }
    for (query, count) in [
        ("", 3),
        ("workflow=pear", 1),
        ("workflow=pea", 0),
        ("label=team:red", 2),
        ("label=team:red&label=env:prod", 1),
        ("label=env:100%25_sure", 1),
        ("label=env:%25", 0),
        ("label=note:%27%3B%20drop%20table%20workflow_runs%3B%20--", 1),
        ("status=queued", 3),
        ("status=failed&status=queued", 3),
        ("status=failed", 0),
        ("text=APPLE", 2),
        ("text=%25", 1),
        ("text=_ur", 0),
        ("text=%27%20or%201%3D1", 0),
        ("created_after=2020-01-01T00:00:00Z&created_before=2100-01-01T00:00:00%2B02:00", 3),
        ("created_before=2020-01-01T00:00:00Z", 0),
    ] {
        let page = house.get(&format!("{RUNS}?{query}")).await.ok();
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_parameter_that_makes_no_sense_is_refused_by_name() {
    let house = House::new();
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=abc", "limit"),
        ("limit=201", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("sort=password", "sort"),
        ("tenant_id=2", "tenant_id"),
        ("status=done", "status"),
        ("status=completed'%20or%20'1'='1", "status"),
        ("label=team", "label"),
        ("label=a%20b:c", "label"),
        ("created_after=yesterday", "created_after"),
        ("text=", "text"),
        ("text=%00", "text"),
        ("workflow=", "workflow"),
    ] {
        let problem = house.get(&format!("{RUNS}?{query}")).await.refused(422, "invalid_parameter");
        assert_eq!(problem["errors"][0]["parameter"], name, "{query}");
    }
    let long = "x".repeat(201);
    house.get(&format!("{RUNS}?text={long}")).await.refused(422, "invalid_parameter");
    house.get(&format!("{RUNS}?text=%ff%fe")).await.refused(400, "malformed_request");
    house.get(&format!("{RUNS}?text=%EF%BF%BD")).await.ok();
    house.get(&format!("{RUNS}?text=%EF%BF")).await.refused(400, "malformed_request");
    let filter = json!({"action": "pause", "filter": {"text": "\u{fffd}"}, "dry_run": true});
    house.post(&format!("{RUNS}/bulk"), filter).await.ok();
    let body = format!("{}.each.do.{}", "w".repeat(63), "n".repeat(64));
    house.get(&format!("{RUNS}?workflow={body}")).await.ok();
    house.get(&format!("{RUNS}?workflow={}", "w".repeat(5_000))).await.refused(422, "invalid_parameter");
    house.get(&format!("{RUNS}/{NOBODY}?wait=61s")).await.refused(422, "invalid_parameter");
    house.get(&format!("{RUNS}/{NOBODY}?wait=abc")).await.refused(422, "invalid_parameter");
    house.get("/healthz?x=1").await.refused(422, "invalid_parameter");
}

#[tokio::test]
async fn a_cursor_that_was_not_given_out_is_refused_everywhere() {
    let house = House::new();
    for name in ["a", "b", "c"] {
        house.publish(&quick(name)).await;
    }
    let page = house.get("/v1/workflows?limit=1").await.ok();
    assert_eq!(names(&page, "name"), ["a"]);
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    let next = house.get(&format!("/v1/workflows?limit=1&cursor={cursor}")).await.ok();
    assert_eq!(names(&next, "name"), ["b"]);
    let mut flipped = cursor.clone().into_bytes();
    flipped[10] = if flipped[10] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for path in [
        format!("/v1/workflows?cursor={flipped}"),
        format!("/v1/workflows?text=a&cursor={cursor}"),
        format!("{RUNS}?cursor={cursor}"),
        format!("/v1/approvals?cursor={cursor}"),
        format!("/v1/workflows/a/versions?cursor={cursor}"),
        format!("{RUNS}?cursor=abc"),
        format!("{RUNS}?cursor="),
        format!("{RUNS}?cursor={}", "A".repeat(5_000)),
        format!("{RUNS}?cursor='%20or%201=1"),
    ] {
        house.get(&path).await.refused(400, "invalid_cursor");
    }
}

#[tokio::test]
async fn workflows_are_found_by_text_and_tag() {
    let house = House::new();
    for (name, tags) in
        [("red-apple", json!(["fruit", "red"])), ("red-car", json!(["red"])), ("pear", json!(["fruit"]))]
    {
        house.post("/v1/workflows", json!({"spec": quick(name), "tags": tags})).await.ok();
    }
    for (query, expected) in [
        ("", &["pear", "red-apple", "red-car"][..]),
        ("text=red", &["red-apple", "red-car"]),
        ("tag=fruit", &["pear", "red-apple"]),
        ("text=RED&tag=fruit", &["red-apple"]),
        ("text=%25", &[]),
        ("text=r_d", &[]),
    ] {
        assert_eq!(
            names(&house.get(&format!("/v1/workflows?{query}")).await.ok(), "name"),
            expected,
            "{query}"
        );
    }
    house.get("/v1/workflows?tag=%20").await.refused(422, "invalid_parameter");
}
