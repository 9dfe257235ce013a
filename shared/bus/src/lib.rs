//! The doorbell and the hot wire: news between processes that may be lost without harm.
//!
//! Whatever travels here stands in the database too. A ring that is lost is found by the sweep, a
//! poke by the heartbeat, an event by the stream that reads the log.

mod in_process;
mod redis;
mod ring_queue;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};
use windlass_model::{Event, Ring, RunId, SessionId};

pub use in_process::InProcessBus;
pub use redis::{RedisBus, UrlError};

/// News that a slow watcher may be behind before it has to read the log. Each watched run has a buffer of this
/// size, so a thousand idle watchers cost a few megabytes.
const NEWS_BUFFERED_MAX: usize = 128;
/// Pokes that may wait for a busy engine; the heartbeat finds what is dropped.
const POKES_WAITING_MAX: usize = 10_000;

/// What travels to those who watch a run.
#[derive(Clone, Debug)]
pub enum News {
    /// Committed history.
    Event(Arc<Event>),
    /// Progress and tokens: not history, never replayed.
    Progress(Arc<Value>),
    /// News may have been lost: the log tells.
    Missed,
}

/// Carries news. No method blocks on the network, fails, or is needed for anything to be true.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Some engine should look at this run.
    fn ring(&self, ring: Ring);

    /// The worker of this process should look at this run, before whatever waits elsewhere.
    fn ring_here(&self, ring: Ring);

    /// The engine that holds this run should read what the door wrote.
    fn poke(&self, session: SessionId, ring: Ring);

    /// Events of one run that were just committed.
    fn publish(&self, run_id: RunId, events: Vec<Event>);

    fn publish_progress(&self, run_id: RunId, progress: Value);

    /// Starts watching a run. What is published after this returns will arrive, or it is reported that news were
    /// missed.
    async fn subscribe(&self, run_id: RunId) -> Subscription;

    /// A worker's end of the doorbell.
    fn rings(&self) -> Box<dyn Rings>;

    /// What the door tells the engine of this session.
    fn pokes(&self, session: SessionId) -> Pokes;
}

/// Where a worker hears the doorbell.
#[async_trait]
pub trait Rings: Send {
    /// Waits for rings and takes up to `limit` of them. What is urgent comes first in most turns, and in each of them
    /// tenants take turns: nobody waits until all that another has rung for is done.
    ///
    /// Dropping the future loses no ring.
    async fn take(&mut self, limit: usize) -> Vec<Ring>;
}

/// The engine's end of the pokes.
pub type Pokes = mpsc::Receiver<Ring>;

/// News of one run. Lagging behind is reported as [`broadcast::error::RecvError::Lagged`]: read the log then.
pub type Subscription = broadcast::Receiver<News>;
