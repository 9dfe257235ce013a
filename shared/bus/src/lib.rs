//! The doorbell and the hot wire: news between processes that may be lost without harm.
//!
//! Whatever travels here stands in the database too. A ring that is lost is found by the sweep, a
//! poke by the heartbeat, an event by the stream that reads the log.

mod in_process;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::broadcast;
use windlass_model::{Event, Priority, RunId, SessionId};

pub use in_process::{InProcessBus, Pokes, Rings};

/// What travels to those who watch a run.
#[derive(Clone, Debug)]
pub enum News {
    /// Committed history.
    Event(Arc<Event>),
    /// Progress and tokens: not history, never replayed.
    Progress(Arc<Value>),
}

/// Sends news. No method blocks on the network, fails, or is needed for anything to be true.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Some engine should look at this run.
    fn ring(&self, run_id: RunId, priority: Priority);

    /// The engine that holds this run should read what the door wrote.
    fn poke(&self, session: SessionId, run_id: RunId);

    /// Events of one run that were just committed.
    fn publish(&self, run_id: RunId, events: &[Event]);

    fn publish_progress(&self, run_id: RunId, progress: Value);

    /// Starts watching a run. What is published after this returns will arrive, or lag is reported.
    async fn subscribe(&self, run_id: RunId) -> Subscription;
}

/// News of one run. Lagging behind is reported as [`broadcast::error::RecvError::Lagged`]: read the log then.
pub type Subscription = broadcast::Receiver<News>;
