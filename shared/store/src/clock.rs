//! The clock of a store that lives inside this process, movable by tests.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windlass_model::Timestamp;

/// Tells a store's time. It never goes back, whatever the machine's clock does.
#[derive(Debug)]
pub struct Clock {
    follows_system: bool,
    /// How far this clock is ahead of what it follows, in microseconds.
    ahead: AtomicI64,
    /// The latest time that was told.
    told: AtomicI64,
}

impl Clock {
    /// Follows the machine's clock.
    pub fn system() -> Self {
        Self { follows_system: true, ahead: AtomicI64::new(0), told: AtomicI64::new(0) }
    }

    /// Stands still at `at` until somebody moves it.
    pub fn fixed(at: Timestamp) -> Self {
        Self { follows_system: false, ahead: AtomicI64::new(at.0), told: AtomicI64::new(0) }
    }

    pub fn now(&self) -> Timestamp {
        let base = if self.follows_system { system_micros() } else { 0 };
        let now = base.saturating_add(self.ahead.load(Ordering::SeqCst));
        Timestamp(self.told.fetch_max(now, Ordering::SeqCst).max(now))
    }

    /// Lets `span` pass at once.
    pub fn advance(&self, span: Duration) {
        self.ahead.fetch_add(micros(span), Ordering::SeqCst);
    }
}

fn system_micros() -> i64 {
    // A machine whose clock stands before 1970 gets 1970.
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_told_to() {
        let clock = Clock::fixed(Timestamp(5));
        assert_eq!((clock.now(), clock.now()), (Timestamp(5), Timestamp(5)));
        clock.advance(Duration::from_micros(7));
        assert_eq!(clock.now(), Timestamp(12));
    }

    #[test]
    fn a_clock_never_goes_back() {
        let clock = Clock::system();
        clock.advance(Duration::from_secs(60));
        let later = clock.now();
        clock.ahead.store(0, Ordering::SeqCst);
        assert_eq!(clock.now(), later);
    }
}
