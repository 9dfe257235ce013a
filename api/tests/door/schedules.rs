//! Schedules, at the door.

use axum::http::Method;
use serde_json::{Value, json};

use crate::house::{Answer, House, quick, with_header, with_json};

const NIGHTLY: &str = "/v1/schedules/nightly";

fn nightly(cron: &str) -> Value {
    json!({"name": "nightly", "workflow": "report", "cron": cron})
}

async fn house_with_report() -> House {
    let house = House::new();
    house.publish(&quick("report")).await;
    house
}

async fn put_with_key(house: &House, key: &str, body: &Value) -> Answer {
    let request = with_header(with_json(Method::PUT, NIGHTLY, body), "if-match", "*");
    house.send(with_header(request, "idempotency-key", key)).await
}

#[tokio::test]
async fn a_change_by_put_is_made_each_time_whatever_its_key() {
    let house = house_with_report().await;
    house.post("/v1/schedules", nightly("@daily")).await.ok();
    for cron in ["@hourly", "@weekly", "@hourly"] {
        let changed = put_with_key(&house, "same", &nightly(cron)).await.ok();
        assert_eq!(changed["cron"], cron);
    }
}

#[tokio::test]
async fn a_command_takes_nothing_and_says_so() {
    let house = house_with_report().await;
    house.post("/v1/schedules", nightly("@daily")).await.ok();
    for verb in ["pause", "resume", "trigger"] {
        let path = format!("{NIGHTLY}/{verb}");
        let problem = house.post(&path, json!({"until": "2027-01-01"})).await.refused(422, "invalid_body");
        assert_eq!(problem["errors"][0]["pointer"], "/until", "{problem}");
        house.post_text(&path, "text/plain", "now").await.refused(415, "unsupported_media_type");
        house.post_text(&path, "application/json", "{").await.refused(400, "malformed_json");
    }
    assert_eq!(house.get(NIGHTLY).await.ok()["revision"], 1, "nothing was changed");
    for verb in ["pause", "resume", "trigger"] {
        house.send(crate::house::request(Method::POST, &format!("{NIGHTLY}/{verb}"))).await.ok();
    }
}

#[tokio::test]
async fn what_changes_nothing_makes_no_revision() {
    let house = house_with_report().await;
    let made = house.post("/v1/schedules", nightly("@daily")).await.ok();
    let again = house.post("/v1/schedules", nightly("@daily")).await;
    assert_eq!((again.status.as_u16(), again.header("etag"), &again.body), (200, "\"1\"", &made));
    for (verb, revision) in [
        ("resume", 1),
        ("pause", 2),
        ("pause", 2),
        ("resume", 3),
        ("resume", 3),
        ("trigger", 4),
        ("resume", 4),
    ] {
        let after = house.post(&format!("{NIGHTLY}/{verb}"), json!({})).await.ok();
        assert_eq!(after["revision"], revision, "{verb}: {after}");
    }
}
