//! The same key, the same answer.

use axum::http::Method;
use serde_json::json;

use crate::house::{House, RUNS, gate, quick, with_header, with_json};

#[tokio::test]
async fn the_same_key_makes_one_run_and_the_same_answer() {
    let house = House::new();
    let body = json!({"spec": quick("once"), "inputs": {"n": 1}});
    let first = house.post_with_key(RUNS, "order-1", &body).await;
    let again = house.post_with_key(RUNS, "order-1", &body).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!((&again.body, again.header("location")), (&first.body, first.header("location")));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    let other = json!({"spec": quick("once"), "inputs": {"n": 2}});
    house.post_with_key(RUNS, "order-1", &other).await.refused(422, "idempotency_key_reused");
    assert_eq!(house.get(RUNS).await.ok()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn many_requests_at_once_with_one_key_make_one_run() {
    let house = House::new();
    let body = json!({"spec": quick("rush")});
    let answers = futures::future::join_all((0..20).map(|_| house.post_with_key(RUNS, "rush", &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
    assert_eq!(house.get(RUNS).await.ok()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn many_requests_at_once_with_one_key_take_one_turn_and_get_one_answer() {
    let house = House::new();
    let mut spec = quick("seldom");
    spec["rate_limit"] = json!({"runs": 1, "per": "1h", "on_limit": "reject"});
    house.publish(&spec).await;
    let body = json!({"workflow": "seldom"});
    let answers = futures::future::join_all((0..20).map(|_| house.post_with_key(RUNS, "rush", &body))).await;
    let wrong: Vec<_> = answers.iter().filter(|it| it.status != 201 || it.body != answers[0].body).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    house.post_with_key(RUNS, "another", &body).await.refused(429, "rate_limited");

    house.delete("/v1/rate-limits/workflow/seldom").await.ok();
    let run = answers[0].body["id"].as_str().unwrap();
    house.drive(run).await;
    let path = format!("{RUNS}/{run}/rerun");
    let nothing = json!({});
    let reruns = (0..20).map(|_| house.post_with_key(&path, "again", &nothing));
    let reruns = futures::future::join_all(reruns).await;
    assert!(reruns.iter().all(|it| it.status == 201 && it.body == reruns[0].body), "{reruns:#?}");
}

#[tokio::test]
async fn a_lost_answer_is_given_again() {
    let house = House::new();
    let body = json!({"spec": quick("lost")});
    for applied in [true, false] {
        let key = format!("lost-{applied}");
        house.post_with_key(RUNS, "warm-up", &body).await.ok();
        house.store.faults().commit_unknown(applied);
        // The first write of a create with an inline definition keeps the definition.
        house.post_with_key(RUNS, &key, &body).await.refused(503, "store_unavailable");
        house.store.faults().commit_unknown(applied);
        let _ = house.post_with_key(RUNS, &key, &body).await;
        house.post_with_key(RUNS, &key, &body).await.ok();
    }
    assert_eq!(house.get(RUNS).await.ok()["items"].as_array().unwrap().len(), 3, "one for each key");
}

#[tokio::test]
async fn a_key_belongs_to_a_person_and_a_route() {
    let house = House::new();
    let body = json!({"spec": gate("mine")});
    let as_user = async |user: &str| {
        let request = with_header(with_json(Method::POST, RUNS, &body), "x-windlass-user", user);
        house.send(with_header(request, "idempotency-key", "1")).await.ok()["id"].as_str().unwrap().to_owned()
    };
    let (ada, bo) = (as_user("ada").await, as_user("bo").await);
    assert_ne!(ada, bo);
    for run in [&ada, &bo] {
        house.post_with_key(&format!("{RUNS}/{run}/pause"), "1", &json!({})).await.ok();
        house.post_with_key(&format!("{RUNS}/{run}/resume"), "1", &json!({})).await.ok();
    }
}

#[tokio::test]
async fn a_command_is_answered_again_or_refused() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let path = format!("{RUNS}/{run}/approve");
    let verdict = json!({"node": "ok", "attempt": 1});
    let first = house.post_with_key(&path, "captured", &verdict).await;
    house.drive(&run).await;
    let again = house.post_with_key(&path, "captured", &verdict).await;
    assert_eq!(
        (again.status, &again.body, again.header("idempotency-replayed")),
        (first.status, &first.body, "true")
    );
    house.post_with_key(&path, "another", &verdict).await.refused(409, "already_decided");
    let changed = json!({"node": "ok", "attempt": 1, "comment": "changed"});
    house.post_with_key(&path, "captured", &changed).await.refused(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_refusal_is_not_kept() {
    let house = House::new();
    let run = house.start(&quick("r")).await;
    let path = format!("{RUNS}/{run}/resume");
    house.post_with_key(&path, "k", &json!({})).await.refused(409, "wrong_state");
    house.command(&run, "pause", json!({})).await.ok();
    house.post_with_key(&path, "k", &json!({})).await.ok();
}

#[tokio::test]
async fn a_publication_is_answered_again() {
    let house = House::new();
    for (name, body) in [("first", json!({"spec": quick("doc")})), ("second", json!({"spec": gate("doc")}))] {
        let first = house.post_with_key("/v1/workflows", name, &body).await;
        let again = house.post_with_key("/v1/workflows", name, &body).await;
        assert_eq!((first.status, &first.body), (again.status, &again.body));
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    let first = house.post_with_key("/v1/workflows", "first", &json!({"spec": quick("doc")})).await.ok();
    assert_eq!((&first["version"], &first["created"]), (&json!(1), &json!(true)), "what was said then");
    assert_eq!(house.get("/v1/workflows/doc").await.ok()["version"], 2);
}

#[tokio::test]
async fn an_answer_that_is_given_again_has_the_same_headers() {
    let house = House::new();
    house.publish(&quick("report")).await;
    let agent = json!({"name": "critic", "do": {"type": "noop"}});
    let tool = json!({"name": "stock.count", "do": {"type": "noop"}});
    let schedule = json!({"name": "nightly", "workflow": "report", "cron": "@daily"});
    for (path, name, body) in [
        ("/v1/workflows", "doc", json!({"spec": quick("doc")})),
        ("/v1/tools", "stock.count", json!({"spec": tool})),
        ("/v1/agents", "critic", json!({"spec": agent})),
        ("/v1/schedules", "nightly", schedule),
    ] {
        let first = house.post_with_key(path, "1", &body).await;
        assert_eq!(first.status, 201, "{}", first.text);
        let again = house.post_with_key(path, "1", &body).await;
        assert_eq!((again.header("etag"), again.header("idempotency-replayed")), ("\"1\"", "true"), "{path}");
        assert_eq!(again.header("location"), format!("{path}/{name}"));
        assert_eq!(again.header("location"), first.header("location"));
        let another = house.post_with_key(path, "2", &body).await;
        assert_eq!((another.status.as_u16(), another.header("location")), (200, ""), "{path}");
        let again = house.post_with_key(path, "2", &body).await;
        assert_eq!((again.header("etag"), again.header("location")), ("\"1\"", ""), "{path}");
    }
}

#[tokio::test]
async fn a_repeated_upload_does_nothing_twice() {
    let house = House::new();
    let upload = async |key: &str, boundary: &str, names: &[&str]| {
        let parts = names.iter().map(|name| {
            let yaml = format!("version: 1\nname: {name}\ntype: steps\nsteps: [{{ id: a, type: noop }}]\n");
            let head = format!("Content-Disposition: form-data; name=\"f\"; filename=\"{name}.yaml\"");
            format!("--{boundary}\r\n{head}\r\n\r\n{yaml}\r\n")
        });
        let request = axum::http::Request::post("/v1/workflows/upload")
            .header("content-type", format!("multipart/form-data; boundary={boundary}"))
            .header("idempotency-key", key)
            .body(format!("{}--{boundary}--\r\n", parts.collect::<String>()).into());
        house.send(request.unwrap()).await
    };
    let (first, again) = (upload("up", "e", &["one", "two"]).await, upload("up", "f", &["one", "two"]).await);
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(again.header("idempotency-replayed"), "true");
    for other in [&["three"][..], &["three", "two"], &["one", "three"], &["one", "two", "three"]] {
        upload("up", "e", other).await.refused(422, "idempotency_key_reused");
    }
    // A file that was refused left no reply.
    assert_eq!(upload("half", "e", &["Bad", "two"]).await.status, 207);
    upload("half", "e", &["three", "two"]).await.refused(422, "idempotency_key_reused");
    house.get("/v1/workflows/three").await.refused(404, "not_found");
}

#[tokio::test]
async fn headers_have_bounds() {
    let house = House::new();
    let long = "x".repeat(256);
    for (name, value) in [
        ("idempotency-key", long.as_str()),
        ("idempotency-key", ""),
        ("idempotency-key", "schlüssel"),
        ("idempotency-key", "two words"),
        ("x-windlass-user", "two words"),
        ("x-windlass-user", "\u{202e}eve"),
        ("x-windlass-roles", "a,,b"),
    ] {
        let request = with_header(with_json(Method::POST, RUNS, &json!({"workflow": "x"})), name, value);
        house.send(request).await.refused(400, "invalid_header");
    }
    let twice = with_json(Method::POST, RUNS, &json!({"workflow": "x"}));
    let twice = with_header(with_header(twice, "idempotency-key", "a"), "idempotency-key", "b");
    house.send(twice).await.refused(400, "invalid_header");
}
