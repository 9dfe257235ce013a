//! Bytes on a connection, for what no honest HTTP client would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Client;

/// A server that has not answered by then has not understood that it should.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

impl Client {
    /// A connection to the house.
    pub async fn connect(&self) -> TcpStream {
        let address = self.address();
        let address = address.strip_prefix("http://").expect("the address is an http URL");
        TcpStream::connect(address).await.expect("the house listens")
    }

    /// Sends bytes and hangs up without looking back.
    pub async fn send_and_hang_up(&self, bytes: &[u8]) {
        let mut connection = self.connect().await;
        connection.write_all(bytes).await.expect("a fresh connection takes bytes");
    }

    /// Sends bytes and reads until the server closes, or has been silent for a while. Returns status and text.
    pub async fn exchange(&self, bytes: &[u8]) -> (u16, String) {
        let mut connection = self.connect().await;
        // The server may close before it has read everything: then what it said is all that counts.
        let _ = connection.write_all(bytes).await;
        let mut heard = Vec::new();
        let mut chunk = [0; 4096];
        let mut patience = ANSWER_WITHIN;
        while let Ok(Ok(count @ 1..)) = tokio::time::timeout(patience, connection.read(&mut chunk)).await {
            heard.extend_from_slice(&chunk[..count]);
            patience = Duration::from_millis(500);
        }
        let text = String::from_utf8_lossy(&heard).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, text)
    }
}

/// A POST as bytes.
pub fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: windlass\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n{body}")
        .into_bytes()
}
