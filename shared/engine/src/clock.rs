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

    /// Takes a reading whose answer has just arrived, and was asked for at `asked_at`. It lags by the answer's way, and
    /// never runs ahead: a timer is not fired early. What is known already is kept while the answer's way can explain the
    /// difference, so that time does not step back, and spans between events are not cut short.
    pub fn set(&self, now: Timestamp, asked_at: Instant) {
        let known = self.now();
        if known < now || known > now.plus(asked_at.elapsed()) {
            self.origin.store(now.0 - micros(self.start.elapsed()), Ordering::Relaxed);
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.origin.load(Ordering::Relaxed) + micros(self.start.elapsed()))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_only_lags_does_not_turn_time_back() {
        let begun = Timestamp(1_000_000_000);
        let clock = Clock::new(begun);
        let way = Duration::from_millis(8);
        let asked_at = Instant::now();
        tokio::time::advance(way).await;
        // It was read when it was asked for.
        clock.set(begun, asked_at);
        assert_eq!(clock.now(), begun.plus(way));
        // Time that was further than we knew, and time that no answer's way explains.
        clock.set(begun.plus(way * 2), asked_at);
        assert_eq!(clock.now(), begun.plus(way * 2));
        clock.set(begun, Instant::now());
        assert_eq!(clock.now(), begun);
    }
}
