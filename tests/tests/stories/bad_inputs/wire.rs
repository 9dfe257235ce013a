//! Bytes that no honest client sends, and pages that are not ours (A28, A34, A36).

use reqwest::Method;
use scenarios::{House, Mode, raw};
use serde_json::json;

const RUNS: &str = "/v1/workflow-runs";

pub(super) async fn withstand(mode: Mode) {
    let house = House::open(mode).await;
    let body = r#"{"workflow": "nope"}"#;
    let huge = 50 << 20;
    let chunks = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20)).repeat(3);
    let attacks: Vec<(&str, Vec<u8>, &[u16])> = vec![
        (
            "a length beyond the limit, told before the body",
            format!("POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {huge}\r\n\r\n").into(),
            &[413],
        ),
        (
            "the same, asking whether to go on",
            format!("POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {huge}\r\n\r\n").into(),
            &[413],
        ),
        (
            "chunks without end",
            format!("POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").into(),
            &[413],
        ),
        (
            "two lengths",
            format!("POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 20\r\n\r\n{body}").into(),
            &[400],
        ),
        (
            "a negative length",
            format!("POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{body}").into(),
            &[400],
        ),
        (
            "chunks of a size that is none",
            format!("POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n").into(),
            &[400, 0],
        ),
        ("another protocol", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello".to_vec(), &[400, 0]),
        ("a method that does not exist", format!("STEAL {RUNS} HTTP/1.1\r\nHost: localhost\r\n\r\n").into(), &[405]),
        ("a header without end", format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "a".repeat(1 << 20)).into(), &[431, 400, 0]),
        ("ten thousand headers", format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-A: a\r\n".repeat(10_000)).into(), &[431, 400, 0]),
        ("an address without end", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(100_000)).into(), &[414, 404, 431, 400, 0]),
        ("a header split in two", b"GET /v1/workflows HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\nEvil: b\r\n\r\n".to_vec(), &[200, 400]),
        ("a line of nonsense", b"hello\r\n\r\n".to_vec(), &[400, 0]),
    ];
    for (what, bytes, expected) in attacks {
        let (status, text) = house.exchange(&bytes).await;
        assert!(expected.contains(&status), "{what}: {status} is none of {expected:?}: {text}");
        assert!(!text.contains("\r\nEvil:"), "{what}: {text}");
    }
    // A body that says two lengths must never be read as two requests.
    let smuggled = format!(
        "POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    );
    let (status, text) = house.exchange(smuggled.as_bytes()).await;
    let answers = text.matches("HTTP/1.1 ").count();
    assert!(
        status == 400 || answers <= 2 && text.to_ascii_lowercase().contains("connection: close"),
        "smuggled: {text}"
    );
    slow_bodies_do_not_stay(&house).await;
    house.get("/readyz").await.ok();
    house.close().await;
}

/// A hundred requests whose bodies never come cost nobody else anything.
async fn slow_bodies_do_not_stay(house: &House) {
    let mut connections = Vec::new();
    for _ in 0..100 {
        let mut connection = house.connect().await;
        let half = raw::post(RUNS, &[], r#"{"workflow": "nope"}"#);
        tokio::io::AsyncWriteExt::write_all(&mut connection, &half[..half.len() - 5])
            .await
            .expect("it takes bytes");
        connections.push(connection);
    }
    let began = std::time::Instant::now();
    house.get("/v1/workflows").await.ok();
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    drop(connections);
}

pub(super) async fn withstand_other_origins(mode: Mode) {
    let house = House::open(mode).await;
    for origin in ["null", "https://evil.example", "http://127.0.0.1.evil.example", "http://localhost:1234"] {
        let read = house.request(Method::GET, "/v1/workflows").header("Origin", origin);
        let answer = house.send(read).await.expect("the house answers");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");

        let preflight = house
            .request(Method::OPTIONS, RUNS)
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST");
        let answer = house.send(preflight).await.expect("the house answers");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), "", "{origin}");

        let write =
            house.request(Method::POST, RUNS).header("Origin", origin).json(&json!({"workflow": "nope"}));
        house.send(write).await.expect("the house answers").refused(403, "origin_not_allowed");
        // What a form on such a page can send without asking.
        let form =
            house.request(Method::POST, RUNS).header("Origin", origin).header("Content-Type", "text/plain");
        let answer = house.send(form.body(r#"{"workflow": "nope"}"#)).await.expect("the house answers");
        assert!(answer.status == 403 || answer.status == 415, "{answer}");
    }
    house.close().await;
}

pub(super) async fn withstand_foreign_hosts(mode: Mode) {
    let house = House::open_with(mode, &[("WINDLASS_HOSTS", "windlass.example")]).await;
    house.push("{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }").await;
    let create = |host: &str| {
        let request = house.request(Method::POST, RUNS).header("Host", host);
        request.header("Origin", format!("http://{host}")).json(&json!({"workflow": "quick"}))
    };
    // A page of a name that means this machine is of our own origin for its browser.
    let answer = house.send(create("evil.example")).await.expect("the house answers");
    assert!(!answer.text.contains("evil.example"), "{answer}");
    answer.refused(421, "host_not_allowed");
    for path in [RUNS, "/docs", "/v1/events/ws"] {
        let read = house.request(Method::GET, path).header("Host", "evil.example");
        house.send(read).await.expect("the house answers").refused(421, "host_not_allowed");
    }
    for process in house.processes() {
        let metrics = process.request(Method::GET, "/metrics").header("Host", "evil.example");
        process.send(metrics).await.expect("the process answers").refused(421, "host_not_allowed");
    }
    let (status, text) = house
        .exchange(
            b"GET http://evil.example/v1/workflows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(status == 421 && !text.contains("evil.example"), "{text}");
    assert_eq!(house.all_runs().await, [] as [String; 0]);

    let answer = house.send(create("windlass.example")).await.expect("the house answers");
    let location = answer.header("location").to_owned();
    assert!(answer.is_ok() && location.starts_with("/v1/workflow-runs/"), "{answer}");
    house.wait_for(&scenarios::client::id_of(&answer.body), "completed").await;
    house.close().await;
}
