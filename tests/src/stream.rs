//! Somebody who watches a run live.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use reqwest::Method;
use serde_json::Value;

use crate::{Answer, Client, Event, PATIENCE};

/// One frame of a `text/event-stream`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<String>,
    pub event: Option<String>,
    pub retry: Option<String>,
    pub comments: Vec<String>,
    pub data: String,
}

impl Frame {
    /// The history event that the frame carries; none for progress and heartbeats.
    pub fn event(&self) -> Option<Event> {
        self.id.as_ref()?;
        let envelope: Value = serde_json::from_str(&self.data).expect("data is JSON");
        Some(Event::from_envelope(&envelope))
    }
}

type Chunks = Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>;

/// An open event stream. Dropping it hangs up.
pub struct EventStream {
    chunks: Chunks,
    buffer: Vec<u8>,
    pub headers: reqwest::header::HeaderMap,
}

/// What came of asking for a stream.
pub enum Opened {
    Stream(EventStream),
    /// Anything but 200.
    Refused(Answer),
}

impl Client {
    /// Opens a stream, after an event when one is named.
    ///
    /// # Errors
    /// When the house is down.
    pub async fn try_watch(&self, run: &str, last_event_id: Option<&str>) -> reqwest::Result<Opened> {
        let request = self.request(Method::GET, &format!("/v1/workflow-runs/{run}/events"));
        self.open_stream(request, last_event_id).await
    }

    /// Opens the stream that a request asks for.
    ///
    /// # Errors
    /// When the house is down.
    pub async fn open_stream(
        &self,
        request: reqwest::RequestBuilder,
        last_event_id: Option<&str>,
    ) -> reqwest::Result<Opened> {
        let mut request = request.header("Accept", "text/event-stream").timeout(Duration::from_secs(3600));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await?;
        if response.status() != 200 {
            return Ok(Opened::Refused(Answer::read("GET events".into(), response).await?));
        }
        let headers = response.headers().clone();
        let chunks = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec()));
        Ok(Opened::Stream(EventStream { chunks: Box::pin(chunks), buffer: Vec::new(), headers }))
    }

    /// Opens a stream from the beginning of the log.
    pub async fn watch(&self, run: &str) -> EventStream {
        match self.try_watch(run, None).await.expect("the house answers") {
            Opened::Stream(stream) => stream,
            Opened::Refused(answer) => panic!("{answer}"),
        }
    }
}

impl EventStream {
    /// The next frame; none when the stream has ended or broke.
    ///
    /// # Panics
    /// When nothing came for as long as [`PATIENCE`]: heartbeats come more often.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = find(&self.buffer, b"\n\n") {
                let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(read_frame(&String::from_utf8(frame).expect("streams are UTF-8")));
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.chunks.next()).await.expect("the stream is alive");
            self.buffer.extend(chunk?.ok()?);
        }
    }

    /// The next history event; none when the stream has ended.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.next_frame().await?.event() {
                return Some(event);
            }
        }
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next_event().await {
            events.push(event);
        }
        events
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn read_frame(text: &str) -> Frame {
    let mut frame = Frame::default();
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => frame.comments.push(value),
            "id" => frame.id = Some(value),
            "event" => frame.event = Some(value),
            "retry" => frame.retry = Some(value),
            "data" => {
                if !frame.data.is_empty() {
                    frame.data.push('\n');
                }
                frame.data.push_str(&value);
            }
            other => panic!("a field that no event stream has: {other}"),
        }
    }
    frame
}
