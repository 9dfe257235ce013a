//! Pages of other origins, foreign hosts, and what a browser is told.

use axum::http::{Method, Request};
use serde_json::json;
use windlass_api::DoorOptions;

use crate::house::{House, RUNS, request, with_header, with_json};

const ALLOWED: &str = "https://console.example";

#[tokio::test]
async fn pages_of_other_origins_read_nothing_and_change_nothing() {
    for options in
        [DoorOptions::default(), DoorOptions { cors_origins: vec![ALLOWED.into()], ..DoorOptions::default() }]
    {
        let house = House::with(options);
        for origin in [
            "null",
            "https://evil.example",
            "https://console.example.evil",
            "http://console.example",
            "http://localhost:1",
        ] {
            let read = house.send(with_header(request(Method::GET, RUNS), "origin", origin)).await;
            assert_eq!(
                (read.status.as_u16(), read.header("access-control-allow-origin")),
                (200, ""),
                "{origin}"
            );
            let preflight = with_header(request(Method::OPTIONS, RUNS), "origin", origin);
            let preflight = house.open(with_header(preflight, "access-control-request-method", "POST")).await;
            assert!(!preflight.headers().contains_key("access-control-allow-origin"), "{origin}");
            assert!(!preflight.headers().contains_key("access-control-allow-credentials"), "{origin}");
            let write =
                with_header(with_json(Method::POST, RUNS, &json!({"workflow": "x"})), "origin", origin);
            house.send(write).await.refused(403, "origin_not_allowed");
            // What a form on such a page can send without asking.
            let bare = with_header(
                request(Method::POST, &format!("{RUNS}/{}/pause", crate::house::NOBODY)),
                "origin",
                origin,
            );
            house.send(bare).await.refused(403, "origin_not_allowed");
        }
    }
}

#[tokio::test]
async fn pages_of_allowed_and_of_our_own_origin_may_do_both() {
    let house = House::with(DoorOptions { cors_origins: vec![ALLOWED.into()], ..DoorOptions::default() });
    let write = with_header(with_json(Method::POST, RUNS, &json!({"workflow": "x"})), "origin", ALLOWED);
    let answer = house.send(write).await;
    assert_eq!(answer.header("access-control-allow-origin"), ALLOWED);
    let readable = answer.header("access-control-expose-headers");
    for header in
        ["etag", "location", "retry-after", "x-request-id", "idempotency-replayed", "preference-applied"]
    {
        assert!(readable.split(',').any(|it| it.trim() == header), "{header}: {readable}");
    }
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    answer.refused(422, "unknown_workflow");

    let own = with_header(with_json(Method::POST, RUNS, &json!({"workflow": "x"})), "host", "127.0.0.1:7070");
    house.send(with_header(own, "origin", "http://127.0.0.1:7070")).await.refused(422, "unknown_workflow");
}

#[tokio::test]
async fn a_name_that_is_not_known_here_is_nobodys_way_in() {
    let hosts = Some(vec!["windlass.example".to_owned()]);
    let house = House::with(DoorOptions { hosts, ..DoorOptions::default() });
    for host in [
        "evil.example",
        "evil.example:7070",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "x.windlass.example",
    ] {
        // For its browser such a page is of our own origin.
        let origin = format!("http://{host}");
        let read = with_header(request(Method::GET, RUNS), "host", host);
        house.send(read).await.refused(421, "host_not_allowed");
        let write = with_header(with_json(Method::POST, RUNS, &json!({"workflow": "x"})), "host", host);
        house.send(with_header(write, "origin", &origin)).await.refused(421, "host_not_allowed");
        let absolute = Request::get(format!("http://{host}{RUNS}")).body(axum::body::Body::empty()).unwrap();
        house.send(with_header(absolute, "host", "localhost")).await.refused(421, "host_not_allowed");
    }
    for host in
        ["localhost", "LocalHost:7070", "127.0.0.1:7070", "[::1]:7070", "10.0.0.7", "windlass.example:80"]
    {
        let read = house.send(with_header(request(Method::GET, RUNS), "host", host)).await;
        assert_eq!(read.status, 200, "{host}");
    }
    assert_eq!(house.get(RUNS).await.status, 200, "whoever names no host is no browser");
}

#[tokio::test]
async fn no_answer_repeats_the_host_that_was_asked() {
    let house = House::new();
    let create = with_json(Method::POST, RUNS, &json!({"spec": crate::house::quick("h")}));
    let answer = house.send(with_header(create, "host", "evil.example")).await;
    assert!(answer.header("location").starts_with("/v1/"), "{:?}", answer.headers);
    let absolute = Request::get("http://evil.example/v1/workflows").body(axum::body::Body::empty()).unwrap();
    let answer = house.send(absolute).await;
    assert!(!answer.text.contains("evil") && !format!("{:?}", answer.headers).contains("evil"));
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let house = House::new();
    for path in [RUNS, "/nowhere", "/healthz"] {
        let answer = house.get(path).await;
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(
            (answer.header("referrer-policy"), answer.header("cache-control")),
            ("no-referrer", "no-store")
        );
    }
}
