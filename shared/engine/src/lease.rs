//! How long this process may believe that it owns its runs.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use windlass_model::SessionId;

/// The worker session of this process, and until when it is safe to start effects under it.
///
/// Safety of the history never depends on this: the fence in every write does that. It only keeps a
/// worker that lost its database from starting deeds that another worker will repeat.
pub struct Lease {
    session: SessionId,
    safe_until: Mutex<Instant>,
    renewed: Notify,
}

/// Share of the session's time that is kept as a margin.
const MARGIN_DIVISOR: u32 = 4;

impl Lease {
    /// Not safe before the first [`Self::renewed`].
    pub fn new(session: SessionId) -> Self {
        Self { session, safe_until: Mutex::new(Instant::now()), renewed: Notify::new() }
    }

    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The session was renewed for `ttl`; the request had been sent at `asked_at`.
    pub fn renewed(&self, asked_at: Instant, ttl: Duration) {
        *self.safe_until.lock().expect("no panic while holding it") = asked_at + ttl - ttl / MARGIN_DIVISOR;
        self.renewed.notify_waiters();
    }

    pub fn is_safe(&self) -> bool {
        Instant::now() < *self.safe_until.lock().expect("no panic while holding it")
    }

    /// Returns when effects may be started; at once, usually.
    pub async fn until_safe(&self) {
        loop {
            let renewed = self.renewed.notified();
            if self.is_safe() {
                return;
            }
            renewed.await;
        }
    }
}
