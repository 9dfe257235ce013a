//! Event streams: feeds as `text/event-stream`.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures::stream::{self, SelectAll, Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_model::EventSeq;

use crate::feed::{Feed, Frame};

/// Keeps proxies from closing a silent connection.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// What an `EventSource` waits before it comes back.
const RETRY_MS: u32 = 2_000;

type Frames = SelectAll<Pin<Box<dyn Stream<Item = (usize, Frame)> + Send>>>;

/// An open stream over one run or many.
struct Watch {
    frames: Frames,
    /// Of each run the last seq that was sent, in the order the client named them.
    sent: Vec<EventSeq>,
    begun: bool,
    heartbeat_at: Instant,
    closing: CancellationToken,
    /// Counts this stream as open.
    _permit: OwnedSemaphorePermit,
}

/// Streams what the feeds give. `sent` holds a place for each of them, and for runs that have ended.
pub(crate) fn response(
    feeds: Vec<(usize, Feed)>,
    sent: Vec<EventSeq>,
    closing: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> Response<Body> {
    let frames = feeds.into_iter().map(|(place, feed)| frames_of(place, feed)).collect();
    let heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
    let watch = Watch { frames, sent, begun: false, heartbeat_at, closing, _permit: permit };
    let chunks = stream::unfold(watch, async |mut watch| watch.next().await.map(|chunk| (chunk, watch)));
    let mut response = Response::new(Body::from_stream(chunks.map(Ok::<Bytes, std::convert::Infallible>)));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn frames_of(place: usize, feed: Feed) -> Pin<Box<dyn Stream<Item = (usize, Frame)> + Send>> {
    Box::pin(stream::unfold(feed, move |mut feed| async move {
        let frame = feed.next().await?;
        Some(((place, frame), feed))
    }))
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            return Some(format!("retry: {RETRY_MS}\n\n").into());
        }
        tokio::select! {
            biased;
            () = self.closing.cancelled() => None,
            frame = self.frames.next() => {
                let (place, frame) = frame?;
                self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
                Some(self.write(place, frame))
            }
            () = tokio::time::sleep_until(self.heartbeat_at) => {
                self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
                Some(Bytes::from_static(b": heartbeat\n\n"))
            }
        }
    }

    fn write(&mut self, place: usize, frame: Frame) -> Bytes {
        match frame {
            Frame::Event { seq, envelope } => {
                self.sent[place] = seq;
                format!("id: {}\ndata: {envelope}\n\n", join_ids(&self.sent)).into()
            }
            Frame::Progress(progress) => format!("data: {progress}\n\n").into(),
        }
    }
}

/// The id of a frame: of each watched run the last seq, so that a client that comes back misses nothing.
pub(crate) fn join_ids(sent: &[EventSeq]) -> String {
    sent.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}
