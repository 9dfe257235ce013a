//! One connection: requests there, answers back, one after the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::request::{Reader, Request};
use super::wire::Frames;
use super::{Fate, Manner, Moment, Shared, Snare};

/// A client's wish for encryption, and its answer: no.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How it ended.
#[derive(PartialEq, Eq)]
enum End {
    /// Either side has hung up.
    Closed,
    Cut,
}

pub(super) async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut resets = shared.resets.subscribe();
    let refuses = *shared.manner.borrow() == Manner::Refuses;
    let end = match TcpStream::connect(("127.0.0.1", shared.server)).await {
        Ok(mut server) if !refuses => tokio::select! {
            // A reset comes first: what waits for the way to open must not slip through after it.
            biased;
            _ = resets.changed() => End::Cut,
            end = talk(&mut client, &mut server, &shared) => end.unwrap_or(End::Closed),
        },
        _ => End::Cut,
    };
    if end == End::Cut {
        // Closing now sends a reset. A client that is gone needs none.
        let _ = client.set_zero_linger();
    }
}

async fn talk(client: &mut TcpStream, server: &mut TcpStream, shared: &Shared) -> io::Result<End> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, mut to_client), (from_server, mut to_server)) = (client.split(), server.split());
    let (mut from_client, from_server) = (Frames::of(from_client), Frames::of(from_server));
    let greeting = loop {
        match from_client.greeting().await? {
            None => return Ok(End::Closed),
            Some(wish) if wish == SSL_REQUEST => to_client.write_all(b"N").await?,
            Some(greeting) => break greeting,
        }
    };
    shared.until_passes(Moment::Before).await;
    to_server.write_all(&greeting).await?;
    let mut reader = Reader::greeted_with(&greeting);
    let mut wires = Wires { to_client, from_server, to_server, shared };
    loop {
        tokio::select! {
            frame = from_client.next() => {
                let Some(frame) = frame? else { return Ok(End::Closed) };
                if let Some(request) = reader.take(&frame) {
                    match wires.exchange(&request).await? {
                        Some(is_in_transaction) => reader.is_in_transaction = is_in_transaction,
                        None => return Ok(End::Cut),
                    }
                } else if matches!(frame.tag(), b'p' | b'H' | b'X') {
                    // A password, a Flush, a goodbye: the server must not wait for more.
                    wires.to_server.write_all(&reader.rest()).await?;
                }
            }
            frame = wires.from_server.next() => {
                let Some(frame) = frame? else { return Ok(End::Closed) };
                shared.until_passes(Moment::After).await;
                wires.to_client.write_all(&frame.0).await?;
            }
        }
    }
}

struct Wires<'a> {
    to_client: WriteHalf<'a>,
    from_server: Frames<ReadHalf<'a>>,
    to_server: WriteHalf<'a>,
    shared: &'a Shared,
}

impl Wires<'_> {
    /// Brings a request there and its answer back. Says whether a transaction is open then; none when it was cut.
    async fn exchange(&mut self, request: &Request) -> io::Result<Option<bool>> {
        let mut snare = self.shared.snare_for(request);
        let mut fate = match snare {
            Some(_) => Fate::Pass,
            None => self.shared.fate_of(request),
        };
        self.shared.until_passes(Moment::Before).await;
        if let Some(held) = snare.take_if(|snare| snare.moment == Moment::Before) {
            fate = hold(held).await;
        }
        if fate != Fate::Pass && fate != Fate::CutAfter {
            self.shared.cuts_before.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        self.to_server.write_all(&request.bytes).await?;

        let (mut kept, mut is_refused) = (Vec::new(), false);
        let is_in_transaction = loop {
            let Some(frame) = self.from_server.next().await? else {
                self.to_client.write_all(&kept).await?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            is_refused |= frame.tag() == b'E';
            kept.extend_from_slice(&frame.0);
            if frame.tag() == b'Z' {
                break frame.body() != b"I";
            }
            if fate == Fate::Pass && snare.is_none() {
                self.deliver(&mut kept).await?;
            }
        };
        if let Some(held) = snare
            && hold(held).await != Fate::Pass
        {
            fate = Fate::CutAfter;
        }
        if fate == Fate::CutAfter {
            self.shared.cuts_after.fetch_add(usize::from(!is_refused), Ordering::Relaxed);
            return Ok(None);
        }
        self.deliver(&mut kept).await?;
        Ok(Some(is_in_transaction))
    }

    async fn deliver(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.shared.until_passes(Moment::After).await;
        self.to_client.write_all(bytes).await?;
        bytes.clear();
        Ok(())
    }
}

/// Waits for whoever set the trap to say what becomes of what is in it.
async fn hold(snare: Snare) -> Fate {
    // Whoever is not interested any more lets it pass.
    let _ = snare.caught.send(());
    snare.verdict.await.unwrap_or(Fate::Pass)
}

impl Shared {
    /// Returns when the way is open. Time is taken on the way to the server only.
    async fn until_passes(&self, moment: Moment) {
        let mut manners = self.manner.subscribe();
        let is_open = |manner: &Manner| match manner {
            Manner::Swallows { to_server, to_client } => match moment {
                Moment::Before => !to_server,
                Moment::After => !to_client,
            },
            _ => true,
        };
        // The proxy is gone: then nothing passes anyway.
        let manner = manners.wait_for(is_open).await.map_or(Manner::Open, |manner| *manner);
        if let (Manner::Slow(more), Moment::Before) = (manner, moment) {
            tokio::time::sleep(more).await;
        }
    }
}
