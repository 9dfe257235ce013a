//! Real connections: slow ones, rude ones, and the last ones before the end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use windlass_api::DoorOptions;
use windlass_store::Runs;

use crate::house::{House, RUNS, gate, quick, with_json};
use crate::slow::SlowStore;

async fn serve(house: &House) -> (std::net::SocketAddr, CancellationToken, JoinHandle<std::io::Result<()>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(windlass_api::serve(listener, Arc::clone(&house.door), shutdown.clone()));
    (address, shutdown, serving)
}

async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_whole_request_gets_a_whole_answer() {
    let house = House::new();
    let (address, _shutdown, _) = serve(&house).await;
    let answer = exchange(address, "GET /healthz HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_answered_before_the_body() {
    let house = House::new();
    let (address, _shutdown, _) = serve(&house).await;
    let head = format!(
        "POST {RUNS} HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\nContent-Length: 52428800\r\n"
    );
    for expect in ["", "Expect: 100-continue\r\n"] {
        let answer = exchange(address, &format!("{head}{expect}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_hangs_up_is_done_to_its_end_and_costs_nobody_a_write() {
    let store = SlowStore::new();
    let house = House::over(store.inner.clone(), store.clone(), DoorOptions::default());
    house.publish(&quick("doc")).await;
    let polite = house.start(&gate("polite")).await;
    store.takes(Duration::from_millis(20));
    // Dropped while the write is on its way, and at every other moment.
    for n in 0..40_u64 {
        let body = json!({"workflow": "doc", "labels": {"by": "rude"}});
        let request = house.open(with_json(axum::http::Method::POST, RUNS, &body));
        let _ = tokio::time::timeout(Duration::from_millis(n * 3), request).await;
        let pause = house.command(&polite, if n % 2 == 0 { "pause" } else { "resume" }, json!({}));
        pause.await.ok();
    }
    store.takes(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let log = house.get(&format!("{RUNS}/{polite}/events?limit=200")).await.ok();
    assert_eq!(log["items"].as_array().unwrap().len(), 41, "every acknowledged command is in the log");
    let runs = house.get(&format!("{RUNS}?label=by:rude&limit=200")).await.ok();
    let rung = house.rung().await;
    for run in runs["items"].as_array().unwrap() {
        let run_id = run["id"].as_str().unwrap().parse().unwrap();
        assert!(rung.contains(&run_id), "what was written was rung for");
        let record = store.inner.load_run(windlass_model::TenantId::DEFAULT, run_id).await.unwrap().unwrap();
        assert_eq!(record.events.len(), 1);
    }
    assert!(!runs["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_that_hangs_up_costs_nobody_a_write() {
    let store = SlowStore::new();
    let house = House::over(store.inner.clone(), store.clone(), DoorOptions::default());
    let run = house.start(&gate("watched")).await;
    store.takes(Duration::from_millis(10));
    for n in 0..30_u64 {
        let path = format!("{RUNS}/{run}/events");
        let watch = crate::house::with_header(
            crate::house::request(axum::http::Method::GET, &path),
            "accept",
            "text/event-stream",
        );
        let watching = async {
            let mut chunks = house.open(watch).await.into_body().into_data_stream();
            while futures::StreamExt::next(&mut chunks).await.is_some() {}
        };
        let command = house.command(&run, if n % 2 == 0 { "pause" } else { "resume" }, json!({}));
        let (_, answer) = tokio::join!(tokio::time::timeout(Duration::from_millis(n * 3), watching), command);
        answer.ok();
    }
    let log = house.get(&format!("{RUNS}/{run}/events?limit=200")).await.ok();
    assert_eq!(log["items"].as_array().unwrap().len(), 31);
}

#[tokio::test]
async fn headers_that_never_end_are_given_up() {
    let house = House::new();
    let (address, _shutdown, _) = serve(&house).await;
    let huge = format!("GET / HTTP/1.1\r\nHost: w\r\nX-A: {}\r\n\r\n", "a".repeat(1 << 20));
    let mut connection = TcpStream::connect(address).await.unwrap();
    // It may close before it has taken everything.
    let _ = connection.write_all(huge.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_server_that_ends_lets_requests_end_first() {
    let store = SlowStore::new();
    let house = House::over(store.inner.clone(), store.clone(), DoorOptions::default());
    let run = house.start(&gate("g")).await;
    let (address, shutdown, serving) = serve(&house).await;
    store.takes(Duration::from_millis(200));
    let slow = tokio::spawn(async move {
        exchange(address, &format!("GET {RUNS}/{run} HTTP/1.1\r\nHost: w\r\n\r\n")).await
    });
    let idle = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    shutdown.cancel();
    assert!(slow.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    drop(idle);
    tokio::time::timeout(Duration::from_secs(5), serving).await.expect("it ends").unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
