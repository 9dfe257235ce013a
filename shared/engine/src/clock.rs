//! The database's time, as this process knows it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use windlass_model::Timestamp;

/// Tells the database's time between two readings of it, by this machine's monotonic clock.
///
/// Every renewal of the session brings a new reading, so the two never drift far apart, and a step of
/// the machine's wall clock changes nothing. Leases and claims are judged by the database itself.
pub struct Clock {
    start: Instant,
    /// Microseconds from the epoch to `start`.
    origin: AtomicI64,
}

impl Clock {
    pub fn new(now: Timestamp) -> Self {
        Self { start: Instant::now(), origin: AtomicI64::new(now.0) }
    }

    /// Takes a reading whose answer has just arrived. It may lag by the answer's way, and never runs ahead:
    /// a timer is not fired early.
    pub fn set(&self, now: Timestamp) {
        self.origin.store(now.0 - micros(self.start.elapsed()), Ordering::Relaxed);
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.origin.load(Ordering::Relaxed) + micros(self.start.elapsed()))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
