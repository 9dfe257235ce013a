//! Stands between PostgreSQL and whoever uses it, understands what is said, and can be as bad as a network.
//!
//! What no ordinary proxy does: it lets a commit happen and keeps the answer, so that the client cannot know.

mod connection;
mod request;
mod wire;

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

pub use request::Request;

/// A port that leads to PostgreSQL, for as long as this lives. Connections through it end with it.
///
/// Knows no encryption, no COPY, and no cancel requests: nothing that Windlass says.
pub struct Proxy {
    shared: Arc<Shared>,
    url: String,
    accepting: AbortHandle,
}

/// How the way is. What cannot pass waits, as it would in a network that loses packets, and passes when it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Open,
    /// Every request takes so much longer.
    Slow(Duration),
    /// Nothing passes towards the server, towards the client, or both.
    Swallows {
        to_server: bool,
        to_client: bool,
    },
    /// Whoever connects is turned away. Connections that stand go on; see [`Proxy::reset`].
    Refuses,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// The connection is reset, and the server never hears of it.
    CutBefore,
    /// The server does it, and the connection is reset instead of the answer.
    CutAfter,
}

/// Where something is held: on its way to the server, or with its answer on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// Connections that were cut, by [`Fate`] or by [`Trap::cut`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    pub before: usize,
    /// Only those whose request the server has done without an error.
    pub after: usize,
}

/// Holds one request, once it comes. Dropped, it lets go, or catches nothing any more.
pub struct Trap {
    caught: Option<oneshot::Receiver<()>>,
    verdict: oneshot::Sender<Fate>,
}

impl Trap {
    /// Returns when the request is held.
    ///
    /// # Panics
    /// When the proxy ends first.
    pub async fn caught(&mut self) {
        if let Some(caught) = self.caught.take() {
            caught.await.expect("the proxy lives");
        }
    }

    /// Lets it go on, whether the client is still there or not.
    pub fn release(self) {
        // Whoever is gone needs no verdict.
        let _ = self.verdict.send(Fate::Pass);
    }

    /// Resets the connection instead.
    pub fn cut(self) {
        let _ = self.verdict.send(Fate::CutBefore);
    }
}

type Rule = Box<dyn FnMut(&Request) -> Fate + Send>;

/// A trap as the proxy knows it.
struct Snare {
    moment: Moment,
    matches: Box<dyn FnMut(&Request) -> bool + Send>,
    caught: oneshot::Sender<()>,
    verdict: oneshot::Receiver<Fate>,
}

struct Shared {
    server: u16,
    manner: watch::Sender<Manner>,
    /// Counts the resets.
    resets: watch::Sender<u64>,
    rule: Mutex<Option<Rule>>,
    snares: Mutex<Vec<Snare>>,
    cuts_before: AtomicUsize,
    cuts_after: AtomicUsize,
}

impl Proxy {
    /// Begins to lead to the database of this URL, such as [`crate::Postgres::url`], which need not be there yet.
    ///
    /// # Panics
    /// Outside of a runtime, or when the URL is not one of ours.
    pub fn to(url: &str) -> Self {
        let (address, database) = url.rsplit_once('/').expect("the URL names a database");
        let (host, server) = address.rsplit_once(':').expect("the URL names a port");
        let server = server.parse().expect("a port is a number");
        let shared = Arc::new(Shared {
            server,
            manner: watch::Sender::new(Manner::Open),
            resets: watch::Sender::new(0),
            rule: Mutex::default(),
            snares: Mutex::default(),
            cuts_before: AtomicUsize::new(0),
            cuts_after: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on the loopback");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        listener.set_nonblocking(true).expect("sockets can do that");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { shared, url: format!("{host}:{port}/{database}"), accepting }
    }

    /// The same database, through this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn is(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
    }

    /// Resets every connection that stands.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// From now on `rule` says what becomes of each request that no trap has caught.
    pub fn judges(&self, rule: impl FnMut(&Request) -> Fate + Send + 'static) {
        *self.shared.rule() = Some(Box::new(rule));
    }

    /// Everything passes again.
    pub fn judges_no_more(&self) {
        *self.shared.rule() = None;
    }

    /// Holds the next request that matches, and only that one.
    pub fn trap(&self, moment: Moment, matches: impl FnMut(&Request) -> bool + Send + 'static) -> Trap {
        let (to_trap, caught) = oneshot::channel();
        let (verdict, from_trap) = oneshot::channel();
        let snare = Snare { moment, matches: Box::new(matches), caught: to_trap, verdict: from_trap };
        self.shared.snares().push(snare);
        Trap { caught: Some(caught), verdict }
    }

    pub fn cuts(&self) -> Cuts {
        let count = |cuts: &AtomicUsize| cuts.load(Ordering::Relaxed);
        Cuts { before: count(&self.shared.cuts_before), after: count(&self.shared.cuts_after) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn rule(&self) -> MutexGuard<'_, Option<Rule>> {
        self.rule.lock().expect("no panic while holding it")
    }

    fn snares(&self) -> MutexGuard<'_, Vec<Snare>> {
        self.snares.lock().expect("no panic while holding it")
    }

    /// The trap that this request walks into.
    fn snare_for(&self, request: &Request) -> Option<Snare> {
        let mut snares = self.snares();
        snares.retain(|snare| !snare.caught.is_closed());
        let at = snares.iter_mut().position(|snare| (snare.matches)(request))?;
        Some(snares.remove(at))
    }

    fn fate_of(&self, request: &Request) -> Fate {
        self.rule().as_mut().map_or(Fate::Pass, |rule| rule(request))
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(connection::serve(client, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
