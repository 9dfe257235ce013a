//! Follows a run's events over SSE, across broken connections, until the run ends.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::client::{Client, StreamError};

/// News that a slow terminal may be behind before reading pauses.
const NEWS_BUFFERED_MAX: usize = 256;
/// The first wait before a broken connection is tried again; doubled each time.
const RECONNECT_FIRST: Duration = Duration::from_millis(250);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// A server sends a sign of life every 15 s: after three missed ones the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A frame larger than this is no event of ours.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What somebody who watches a run learns.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Committed history, in order and without gaps: the envelope with `seq`, `at` and `event`.
    Event(Value),
    /// What a running step says meanwhile: `{node, progress}`.
    Progress(Value),
    /// The connection broke; it is tried again until it works.
    Lost(String),
}

impl News {
    pub fn seq(envelope: &Value) -> u32 {
        envelope.get("seq").and_then(Value::as_u64).and_then(|seq| u32::try_from(seq).ok()).unwrap_or(0)
    }

    /// The type of an event's envelope, such as `step.started`.
    pub fn kind(envelope: &Value) -> &str {
        envelope.pointer("/event/type").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn is_terminal(envelope: &Value) -> bool {
        matches!(Self::kind(envelope), "run.completed" | "run.failed" | "run.canceled")
    }
}

/// Reads on in a task of its own, so that whoever waits for news may wait for other things as well.
/// The channel closes after the run's last event.
pub fn start(client: Client, run_id: String, after: u32) -> mpsc::Receiver<Result<News>> {
    let (sender, receiver) = mpsc::channel(NEWS_BUFFERED_MAX);
    tokio::spawn(async move {
        let mut follower = Follower { client, run_id, last_seq: after, sender };
        follower.run().await;
    });
    receiver
}

struct Follower {
    client: Client,
    run_id: String,
    last_seq: u32,
    sender: mpsc::Sender<Result<News>>,
}

/// Why one connection ended.
enum Ending {
    /// The run has ended, or nobody listens any more.
    Done,
    Broken(String),
}

impl Follower {
    async fn run(&mut self) {
        let mut delay = RECONNECT_FIRST;
        loop {
            let before = self.last_seq;
            let why = match self.read_once().await {
                Ok(Ending::Done) => return,
                Ok(Ending::Broken(why)) => why,
                Err(error) => {
                    let _ = self.sender.send(Err(error)).await;
                    return;
                }
            };
            if self.last_seq > before {
                delay = RECONNECT_FIRST;
            }
            if self.sender.send(Ok(News::Lost(why))).await.is_err() {
                return;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RECONNECT_MAX);
        }
    }

    async fn read_once(&mut self) -> Result<Ending> {
        let answer = match self.client.open_stream(&self.run_id, self.last_seq).await {
            Ok(answer) => answer,
            Err(StreamError::Lost(error)) => return Ok(Ending::Broken(format!("{error:#}"))),
            Err(StreamError::Refused(error)) => return Err(error),
        };
        // The run had ended, and everything was seen.
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(Ending::Done);
        }
        let mut frames = Frames::default();
        let mut body = answer.bytes_stream();
        loop {
            let chunk = match tokio::time::timeout(SILENCE_MAX, body.next()).await {
                Err(_) => return Ok(Ending::Broken("the server fell silent".into())),
                Ok(None) => return Ok(Ending::Broken("the server closed the stream".into())),
                Ok(Some(Err(error))) => return Ok(Ending::Broken(error.to_string())),
                Ok(Some(Ok(chunk))) => chunk,
            };
            for data in frames.push(&chunk) {
                if let Some(ending) = self.take(&data).await {
                    return Ok(ending);
                }
            }
            if frames.buffer.len() > FRAME_BYTES_MAX {
                return Ok(Ending::Broken("the server sent a frame without end".into()));
            }
        }
    }

    async fn take(&mut self, data: &str) -> Option<Ending> {
        let Ok(message) = serde_json::from_str::<Value>(data) else {
            return Some(Ending::Broken("the server sent something unreadable".into()));
        };
        let news = match message.get("type").and_then(Value::as_str) {
            Some("run.event") => {
                let seq = News::seq(&message);
                // Seen before the connection broke.
                if seq <= self.last_seq {
                    return None;
                }
                self.last_seq = seq;
                News::Event(message)
            }
            Some("run.progress") => News::Progress(message),
            // A newer server may say more than this client knows.
            _ => return None,
        };
        let ends = matches!(&news, News::Event(envelope) if News::is_terminal(envelope));
        let heard = self.sender.send(Ok(news)).await.is_ok();
        (ends || !heard).then_some(Ending::Done)
    }
}

/// Cuts a byte stream into the data of its SSE frames.
#[derive(Default)]
struct Frames {
    buffer: Vec<u8>,
    /// Up to here no end of a line has been found.
    searched: usize,
    data: String,
}

impl Frames {
    /// The data of every frame that is complete now. Comments and other fields are passed over.
    fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        self.buffer.extend_from_slice(chunk);
        let mut complete = Vec::new();
        let mut from = 0;
        while let Some(length) = self.buffer[from.max(self.searched)..].iter().position(|byte| *byte == b'\n')
        {
            let end = from.max(self.searched) + length;
            let line = String::from_utf8_lossy(&self.buffer[from..end]).into_owned();
            from = end + 1;
            self.searched = from;
            self.line(line.trim_end_matches('\r'), &mut complete);
        }
        self.buffer.drain(..from);
        self.searched = self.buffer.len();
        complete
    }

    fn line(&mut self, line: &str, complete: &mut Vec<String>) {
        if line.is_empty() {
            if !self.data.is_empty() {
                complete.push(std::mem::take(&mut self.data));
            }
        } else if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_torn() {
        let stream = "retry: 2000\n\n: beat\n\nid: 1\ndata: {\"a\":1}\n\nid: 2\r\ndata: x\r\ndata:é\r\n\r\n";
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let found: Vec<String> =
                stream.as_bytes().chunks(size).flat_map(|chunk| frames.push(chunk)).collect();
            assert_eq!(found, ["{\"a\":1}", "x\né"], "in pieces of {size}");
            assert!(frames.buffer.is_empty());
        }
    }
}
