//! The clock of a store that lives inside this process, movable by tests.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use windlass_model::Timestamp;

/// Tells a store's time. It never goes back and never stands still, whatever the machine's clock does: one that was ahead
/// for a while and was set right goes on from where it was.
#[derive(Debug)]
pub struct Clock {
    /// Since when a clock that follows the machine's does so.
    start: Option<Instant>,
    /// How far this clock is ahead of what it follows, in microseconds.
    ahead: AtomicI64,
    /// What it was at `start`, by the latest that the machine's clock has ever been.
    origin: AtomicI64,
}

impl Clock {
    /// Follows the machine's clock.
    pub fn system() -> Self {
        Self { start: Some(Instant::now()), ahead: AtomicI64::new(0), origin: AtomicI64::new(0) }
    }

    /// Stands still at `at` until somebody moves it.
    pub fn fixed(at: Timestamp) -> Self {
        Self { start: None, ahead: AtomicI64::new(0), origin: AtomicI64::new(at.0) }
    }

    pub fn now(&self) -> Timestamp {
        let Some(start) = self.start else { return self.at(self.origin.load(Ordering::SeqCst)) };
        // In this order: whoever is held up in between is late for once, and not ahead for good.
        let system = system_micros();
        let passed = micros(start.elapsed());
        let seen = system - passed;
        let origin = self.origin.fetch_max(seen, Ordering::SeqCst).max(seen);
        self.at(origin.saturating_add(passed))
    }

    fn at(&self, time: i64) -> Timestamp {
        Timestamp(time.saturating_add(self.ahead.load(Ordering::SeqCst)))
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
    fn a_clock_neither_goes_back_nor_stands_still_when_the_machines_is_set_right() {
        let clock = Clock::system();
        // As if the machine's clock had been a minute ahead when it was looked at.
        clock.origin.store(system_micros() + 60_000_000, Ordering::SeqCst);
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(5));
        let after = clock.now();
        assert!(before.plus(Duration::from_millis(5)) <= after, "{before} {after}");
        assert!(after.0 - system_micros() > 50_000_000);
    }

    #[test]
    fn a_clock_follows_the_machines_when_that_goes_ahead() {
        let clock = Clock::system();
        assert!((clock.now().0 - system_micros()).abs() < 1_000_000);
        // As if it had been a minute behind until now.
        clock.origin.fetch_sub(60_000_000, Ordering::SeqCst);
        assert!((clock.now().0 - system_micros()).abs() < 1_000_000);
    }
}
