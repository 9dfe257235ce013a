//! The least that speaks HTTP: one keep-alive connection, answers with a known length.
//!
//! A full client costs as much CPU as the server that is to be measured, on the same cores.

use std::io;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than any header block that the server sends.
const HEAD_BYTES_MAX: usize = 16 * 1024;

pub(crate) struct Connection {
    stream: TcpStream,
    /// What was read and not yet used.
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        let (status, body) = self.exchange(request.as_bytes()).await?;
        ensure!(status == 200, "GET {path} answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    /// Sends a request as it stands. Returns the status and the body.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.stream.write_all(request).await?;
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(self.buffer.len() < HEAD_BYTES_MAX, "a header block without end");
            self.read_more().await?;
        };
        let head = std::str::from_utf8(&self.buffer[..head_end]).context("headers are ASCII")?;
        let status: u16 = head.get(9..12).and_then(|it| it.parse().ok()).context("no status line")?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, value)| value.trim().parse::<usize>())
            .context("an answer of unknown length")??;
        while self.buffer.len() < head_end + length {
            self.read_more().await?;
        }
        let body = self.buffer[head_end..head_end + length].to_vec();
        self.buffer.drain(..head_end + length);
        Ok((status, body))
    }

    async fn read_more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

/// A create as bytes, made once and sent again and again.
pub(crate) fn create_request(workflow: &str, wait: bool) -> Vec<u8> {
    let prefer = if wait { "Prefer: wait=60\r\n" } else { "" };
    request_with("/v1/workflow-runs", prefer, &serde_json::json!({ "workflow": workflow }))
}

pub(crate) fn post_request(path: &str, body: &Value) -> Vec<u8> {
    request_with(path, "", body)
}

fn request_with(path: &str, headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}
