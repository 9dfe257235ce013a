//! The same events over WebSocket: one JSON message each.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::feed::{Feed, Frame};
use crate::sse::HEARTBEAT_EVERY;

/// Clients have nothing to say here but pongs.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// A peer that answers no ping for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A message that the peer does not take for this long is given up, and the peer with it.
const SEND_WITHIN: Duration = Duration::from_secs(30);

/// Sends a run's events until its last one, or until the client or the server has enough.
///
/// `feed` is none when the run has ended and the client has seen it all.
pub(crate) async fn send_events(
    mut socket: WebSocket,
    feed: Option<Feed>,
    closing: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let ending = match feed {
        Some(mut feed) => pass_on(&mut socket, &mut feed, &closing).await,
        None => Some((close_code::NORMAL, "the run has ended")),
    };
    if let Some((code, reason)) = ending {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        // Whether the peer still hears it makes no difference.
        let _ = timeout(SEND_WITHIN, socket.send(Message::Close(Some(frame)))).await;
    }
}

/// How the conversation ends; none when the peer has gone.
async fn pass_on(
    socket: &mut WebSocket,
    feed: &mut Feed,
    closing: &CancellationToken,
) -> Option<(u16, &'static str)> {
    let mut heard_at = Instant::now();
    let mut ping_at = heard_at + HEARTBEAT_EVERY;
    loop {
        let message = tokio::select! {
            biased;
            () = closing.cancelled() => return Some((close_code::AWAY, "the server is going away")),
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {
                    heard_at = Instant::now();
                    continue;
                }
            },
            frame = feed.next() => match frame {
                Some(Frame::Event { envelope, .. }) => Message::Text(envelope.into()),
                Some(Frame::Progress(progress)) => Message::Text(progress.to_string().into()),
                None => return Some((close_code::NORMAL, "the run has ended")),
            },
            () = tokio::time::sleep_until(ping_at) => {
                if heard_at.elapsed() > SILENCE_MAX {
                    return None;
                }
                ping_at = Instant::now() + HEARTBEAT_EVERY;
                Message::Ping(Default::default())
            }
        };
        match timeout(SEND_WITHIN, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}
