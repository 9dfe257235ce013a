//! The log over WebSocket, on a real connection.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use crate::house::{House, NOBODY, RUNS, gate, quick};

async fn serve(house: &House) -> (String, CancellationToken) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shutdown = CancellationToken::new();
    tokio::spawn(windlass_api::serve(listener, Arc::clone(&house.door), shutdown.clone()));
    (address, shutdown)
}

#[tokio::test]
async fn a_websocket_tells_the_whole_story_and_closes() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let (address, _shutdown) = serve(&house).await;
    let url = format!("ws://{address}{RUNS}/{run}/events/ws");
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    house.command(&run, "approve", json!({"node": "ok"})).await.ok();
    house.drive(&run).await;
    let mut seen: Vec<Value> = Vec::new();
    let mut closed = None;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => seen.push(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => closed = frame.map(|frame| frame.code),
            _ => {}
        }
    }
    let log = house.get(&format!("{RUNS}/{run}/events")).await.ok();
    assert_eq!(json!(seen), log["items"]);
    assert_eq!(closed, Some(CloseCode::Normal));

    let (mut rest, _) =
        tokio_tungstenite::connect_async(format!("{url}?after={}", seen.len() - 1)).await.unwrap();
    let last = rest.next().await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last.to_text().unwrap()).unwrap(), *seen.last().unwrap());
}

#[tokio::test]
async fn a_handshake_that_may_not_be_is_refused() {
    let house = House::new();
    let run = house.run(&quick("q")).await;
    let path = format!("{RUNS}/{run}/events/ws");
    let answer = house.get(&path).await;
    assert_eq!(answer.header("upgrade"), "websocket");
    answer.refused(426, "upgrade_required");
    house.get(&format!("{path}?after=99")).await.refused(400, "event_id_ahead");
    house.get(&format!("{RUNS}/{NOBODY}/events/ws")).await.refused(404, "not_found");

    let (address, _shutdown) = serve(&house).await;
    let mut foreign = format!("ws://{address}{path}").into_client_request().unwrap();
    foreign.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let refused = tokio_tungstenite::connect_async(foreign).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[tokio::test]
async fn streams_and_sockets_end_when_the_server_does() {
    let house = House::new();
    let run = house.run(&gate("ask")).await;
    let (address, shutdown) = serve(&house).await;
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{address}{RUNS}/{run}/events/ws")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    shutdown.cancel();
    let ending = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                return frame.map(|frame| frame.code);
            }
        }
        None
    };
    let code = tokio::time::timeout(Duration::from_secs(5), ending).await.expect("it ends soon");
    assert_eq!(code, Some(CloseCode::Away));
}
