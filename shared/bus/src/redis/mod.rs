//! The bus between processes, on Redis or Valkey: lists for rings, a channel for each watched run and each worker.
//!
//! Redis may be away, lose everything, or answer late, at any moment and for ever. Then a worker hears its own rings
//! only, such as those of its sweep; watchers are told to read the log; and nobody waits. Each of the three
//! connections comes back by itself:
//!
//! * [`outgoing`] sends whatever is to be sent, in batches,
//! * [`listening`] hears watched runs and pokes,
//! * [`doorbell`] takes rings, in a worker only.

mod doorbell;
mod listening;
mod message;
mod outgoing;
mod patience;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::AsyncConnectionConfig;
use ::redis::aio::MultiplexedConnection;
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;
use windlass_model::{Event, Ring, RunId, SessionId};

use crate::ring_queue::RingQueue;
use crate::{Bus, Pokes, Rings, Subscription};

use listening::Listening;
use outgoing::Post;
use patience::Patience;

/// What may wait to be sent. More is dropped: whoever waits for it finds it in the database.
const POSTS_WAITING_MAX: usize = 8_192;

/// Doorbell and hot wire of a fleet.
pub struct RedisBus {
    shared: Arc<Shared>,
    posts: mpsc::Sender<Post>,
    listening: Listening,
}

/// An address that cannot be one of a Redis. It says nothing that the address may keep secret.
#[derive(Debug, thiserror::Error)]
#[error("this is no address of a Redis without TLS; write it like redis://redis.internal:6379")]
pub struct UrlError;

/// What the connections know of each other.
struct Shared {
    client: ::redis::Client,
    /// Rings for the worker of this process alone, and those that Redis cannot carry.
    local: RingQueue,
    has_worker: AtomicBool,
    /// Which of the connections work.
    sends: AtomicBool,
    takes: AtomicBool,
}

impl RedisBus {
    /// Begins to connect; Redis need not be there yet.
    ///
    /// # Errors
    /// When `url` is no address of a Redis.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(url: &str) -> Result<Arc<Self>, UrlError> {
        let shared = Arc::new(Shared {
            client: ::redis::Client::open(url).map_err(|_| UrlError)?,
            local: RingQueue::default(),
            has_worker: AtomicBool::new(false),
            sends: AtomicBool::new(false),
            takes: AtomicBool::new(false),
        });
        let (posts, posted) = mpsc::channel(POSTS_WAITING_MAX);
        tokio::spawn(outgoing::send_all(shared.clone(), posted));
        let listening = Listening::start(shared.client.clone(), posts.clone());
        Ok(Arc::new(Self { shared, posts, listening }))
    }

    /// Whether messages get out at this moment. Nothing needs it.
    pub fn is_connected(&self) -> bool {
        self.shared.sends.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// A connection for commands, once Redis is there.
    async fn connect(&self, patience: &mut Patience, answer_max: Option<Duration>) -> MultiplexedConnection {
        let config = AsyncConnectionConfig::new().set_response_timeout(answer_max);
        let connect = || {
            let (client, config) = (self.client.clone(), config.clone());
            async move { client.get_multiplexed_async_connection_with_config(&config).await }
        };
        patience.until_connected(connect).await
    }

    /// Whether a ring would arrive. A worker that cannot take rings must not leave its own with Redis either:
    /// every other worker may be as deaf.
    fn carries_rings(&self) -> bool {
        let takes = !self.has_worker.load(Ordering::Relaxed) || self.takes.load(Ordering::Relaxed);
        takes && self.sends.load(Ordering::Relaxed)
    }

    /// A ring that does not go through Redis.
    fn keep(&self, ring: Ring) {
        if self.has_worker.load(Ordering::Relaxed) {
            self.local.push(ring);
        }
    }
}

#[async_trait]
impl Bus for RedisBus {
    fn ring(&self, ring: Ring) {
        if !self.shared.carries_rings() || self.posts.try_send(Post::Ring(ring)).is_err() {
            self.shared.keep(ring);
        }
    }

    fn ring_here(&self, ring: Ring) {
        self.shared.keep(ring);
    }

    fn poke(&self, session: SessionId, ring: Ring) {
        self.post(Post::Poke(session, ring));
    }

    fn publish(&self, run_id: RunId, events: Vec<Event>) {
        self.post(Post::Events(run_id, events));
    }

    fn publish_progress(&self, run_id: RunId, progress: Value) {
        self.post(Post::Progress(run_id, progress));
    }

    async fn subscribe(&self, run_id: RunId) -> Subscription {
        self.listening.subscribe(run_id).await
    }

    fn rings(&self) -> Box<dyn Rings> {
        doorbell::listen(self.shared.clone())
    }

    fn pokes(&self, session: SessionId) -> Pokes {
        self.listening.pokes(session)
    }
}

impl RedisBus {
    fn post(&self, post: Post) {
        if self.is_connected() {
            // A full queue means that Redis is slow; whoever waits for this looks into the database now and then.
            let _ = self.posts.try_send(post);
        }
    }
}
