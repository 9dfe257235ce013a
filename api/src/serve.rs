//! Answers connections: bounded in number, in patience and in memory, and ended gracefully.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Door;

/// A connection on which no whole request head comes for this long is closed. It bounds idle connections as
/// well as slow heads, so it must not be shorter than the pause between two requests of an honest client.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// A peer that takes nothing for this long is gone, or does not read.
const WRITE_STALLED_MAX: Duration = Duration::from_secs(30);
/// What is buffered per connection in each direction.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// After this long, what still runs is cut off.
const GRACE: Duration = Duration::from_secs(15);
/// Out of file descriptors: some will be closed soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections to a process that only tells how it fares.
const HEALTH_CONNECTIONS_MAX: usize = 64;

/// Serves the API until `shutdown`, then lets requests end and streams close.
pub async fn serve(listener: TcpListener, door: Arc<Door>, shutdown: CancellationToken) -> io::Result<()> {
    let connections_max = door.options.connections_max;
    let router = crate::router_until(door, shutdown.child_token());
    serve_router(listener, router, connections_max, shutdown).await
}

/// Serves what tells how a process without a door fares, until `shutdown`. Once `closing` is canceled it is not
/// ready any more.
pub async fn serve_health(
    listener: TcpListener,
    door: Arc<Door>,
    closing: CancellationToken,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_router(listener, crate::health_router(door, closing), HEALTH_CONNECTIONS_MAX, shutdown).await
}

async fn serve_router(
    listener: TcpListener,
    router: axum::Router,
    connections_max: usize,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(connections_max));
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(BUFFER_BYTES_MAX);
    let connections = TaskTracker::new();
    let cut_off = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_peer(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "Cannot accept connections right now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection =
            http.serve_connection(TokioIo::new(Patient::new(stream)), service.clone()).with_upgrades();
        let (shutdown, cut_off) = (shutdown.clone(), cut_off.clone());
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = cut_off.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "A connection broke");
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!("Some requests did not end in time and were cut off");
        cut_off.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Small answers must not wait for an acknowledgement of the one before.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput)
}

/// A connection that breaks when its peer has taken nothing for [`WRITE_STALLED_MAX`].
struct Patient<S> {
    stream: S,
    /// Set while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
    patience: Duration,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self { stream, stalled: None, patience: WRITE_STALLED_MAX }
    }

    /// Passes on how a write went; keeps the time while it goes nowhere.
    fn watch<T>(&mut self, cx: &mut Context<'_>, went: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if went.is_ready() {
            self.stalled = None;
            return went;
        }
        let patience = self.patience;
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let went = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, went)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let went = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, went)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let went = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, went)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_reads_is_given_up_and_a_slow_one_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Patient::new(near);
        let writing = tokio::spawn(async move { near.write_all(&[7; 64]).await });
        for _ in 0..4 {
            tokio::time::sleep(WRITE_STALLED_MAX - Duration::from_secs(1)).await;
            far.read_exact(&mut [0; 16]).await.unwrap();
        }
        writing.await.unwrap().unwrap();

        let (near, _far) = tokio::io::duplex(16);
        let began = Instant::now();
        let error = Patient::new(near).write_all(&[7; 64]).await.unwrap_err();
        assert_eq!(
            (error.kind(), began.elapsed().as_secs()),
            (io::ErrorKind::TimedOut, WRITE_STALLED_MAX.as_secs())
        );
    }
}
