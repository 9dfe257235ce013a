//! Bodies that are broken, too deep, too large, or of the wrong kind.

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use serde_json::json;
use windlass_api::DoorOptions;

use crate::house::{House, RUNS, quick, with_header, with_json};

#[tokio::test]
async fn json_that_means_different_things_to_different_readers_is_refused() {
    let house = House::new();
    let deep = format!(r#"{{"workflow": "x", "inputs": {}{}}}"#, "[".repeat(70), "]".repeat(70));
    let bomb = "[".repeat(100_000);
    for body in [
        &br#"{"workflow": "x", "workflow": "y"}"#[..],
        br#"{"workflow": "x", "inputs": {"a": "\u0000"}}"#,
        br#"{"workflow": "x", "inputs": {"a": "\ud800"}}"#,
        b"\xef\xbb\xbf{}",
        b"{\"workflow\": \"\xff\"}",
        br#"{"workflow": "x", "inputs": {"a": NaN}}"#,
        br#"{"workflow": "x", "inputs": {"a": 9223372036854775808000}}"#,
        br#"{"workflow": "x"} x"#,
        b"",
        deep.as_bytes(),
        bomb.as_bytes(),
    ] {
        let problem =
            house.post_text(RUNS, "application/json", body.to_vec()).await.refused(400, "malformed_json");
        assert!(problem["errors"][0]["line"].as_u64() >= Some(1), "{problem}");
        assert!(problem["errors"][0]["column"].as_u64() >= Some(1), "{problem}");
    }
}

#[tokio::test]
async fn a_wrong_shape_is_told_in_the_words_of_json() {
    let house = House::new();
    let run = house.start(&quick("a")).await;
    for (verb, body, pointer, part) in [
        ("move", json!({"version": "1"}), "/version", "expected a number from 1, or `latest`"),
        ("approve", json!({"node": "a", "attempt": 70_000}), "/attempt", "a whole number from 0 to 65535"),
        ("rerun", json!({"labels": []}), "/labels", "wrong type: a list, expected an object"),
    ] {
        let problem = house.command(&run, verb, body.clone()).await.refused(422, "invalid_body");
        let error = &problem["errors"][0];
        assert_eq!(error["pointer"], pointer, "{body}: {problem}");
        assert!(error["detail"].as_str().unwrap().contains(part), "{body}: {problem}");
    }
    let unknown = json!({"action": "cancel", "ids": ["x"]});
    let problem = house.post(&format!("{RUNS}/bulk"), unknown).await.refused(422, "invalid_body");
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("an id such as"), "{problem}");
}

#[tokio::test]
async fn a_body_says_what_it_is() {
    let house = House::new();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/yaml",
        "application/json; charset=latin1",
        "x",
    ] {
        house.post_text(RUNS, kind, r#"{"workflow": "x"}"#).await.refused(415, "unsupported_media_type");
    }
    let encoded = |encoding: &str| {
        let request = with_json(Method::POST, RUNS, &json!({"spec": quick("x")}));
        house.send(with_header(request, "content-encoding", encoding))
    };
    for encoding in ["gzip", "deflate", "br", "zstd", "identity, gzip"] {
        let problem = encoded(encoding).await.refused(415, "unsupported_media_type");
        assert!(problem["detail"].as_str().unwrap().contains("Content-Encoding"), "{problem}");
    }
    encoded("Identity").await.ok();
    let nothing_said = Request::post(RUNS).body(Body::from(r#"{"workflow": "x"}"#)).unwrap();
    house.send(nothing_said).await.refused(415, "unsupported_media_type");
    house
        .post_text("/v1/workflows", "application/yaml", vec![b'a', 0xff])
        .await
        .refused(400, "malformed_request");
}

#[tokio::test]
async fn a_body_has_a_limit_whether_or_not_it_says_its_length() {
    let house = House::with(DoorOptions { body_bytes_max: 1_000, ..DoorOptions::default() });
    let fitting = json!({"spec": quick("fits"), "inputs": {"a": "x".repeat(500)}});
    house.post(RUNS, fitting).await.ok();
    let announced = Request::post(RUNS).header("content-length", "1001").body(Body::empty()).unwrap();
    let answer = house.send(announced).await;
    assert_eq!(answer.header("connection"), "close");
    answer.refused(413, "body_too_large");
    let chunks =
        futures::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from("x".repeat(50)))));
    let chunked =
        Request::post(RUNS).header("content-type", "application/json").body(Body::from_stream(chunks));
    house.send(chunked.unwrap()).await.refused(413, "body_too_large");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_given_up() {
    let house = House::new();
    let endless = futures::stream::pending::<std::io::Result<Bytes>>();
    let request =
        Request::post(RUNS).header("content-type", "application/json").body(Body::from_stream(endless));
    let answer = house.send(request.unwrap()).await;
    assert_eq!(answer.header("connection"), "close");
    answer.refused(408, "request_timeout");
}

#[tokio::test]
async fn a_route_names_its_methods() {
    let house = House::new();
    for (method, path, allowed) in [
        ("PATCH", RUNS, "GET,HEAD,POST"),
        ("DELETE", RUNS, "GET,HEAD,POST"),
        ("PUT", "/healthz", "GET,HEAD"),
        ("STEAL", "/v1/workflows/x", "GET,HEAD,PUT,DELETE"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = house.send(request).await;
        let mut got: Vec<_> = answer.header("allow").split(',').map(str::to_owned).collect();
        let mut expected: Vec<_> = allowed.split(',').map(str::to_owned).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{method} {path}");
        answer.refused(405, "method_not_allowed");
    }
}
