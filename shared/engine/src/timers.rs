//! Near timers: rings the doorbell for parked runs at the moment they are due.
//!
//! The database keeps every timer; this only spares those of the next moments the wait for a sweep.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use windlass_bus::Bus;
use windlass_model::Ring;

/// Timers kept in memory; further ones are left to the sweep.
const NEAR_TIMERS_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct NearTimers {
    due: Mutex<BTreeSet<(Instant, Ring)>>,
    changed: Notify,
}

impl NearTimers {
    pub(crate) fn add(&self, ring: Ring, after: Duration) {
        let mut due = self.due.lock().expect("no panic while holding it");
        if due.len() < NEAR_TIMERS_MAX {
            let entry = (Instant::now() + after, ring);
            let is_first = due.first().is_none_or(|first| entry < *first);
            due.insert(entry);
            drop(due);
            if is_first {
                self.changed.notify_one();
            }
        }
    }

    /// Gives a sign of life with each turn, and turns whenever `turns` does.
    pub(crate) async fn run(
        &self,
        bus: &dyn Bus,
        mut turns: Interval,
        sign: impl Fn(),
        stop: &CancellationToken,
    ) {
        loop {
            let next = self.ring_due(bus);
            sign();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                _ = turns.tick() => {}
            }
        }
    }

    /// Rings for everything that is due and says when the next is.
    fn ring_due(&self, bus: &dyn Bus) -> Option<Instant> {
        let mut due = self.due.lock().expect("no panic while holding it");
        let now = Instant::now();
        while let Some((at, ring)) = due.first().copied() {
            if at > now {
                return Some(at);
            }
            due.pop_first();
            bus.ring_here(ring);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use windlass_bus::InProcessBus;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_loop_shows_that_it_turns_while_nothing_is_due() {
        let (timers, bus, stop) = (NearTimers::default(), InProcessBus::new(), CancellationToken::new());
        let signs = AtomicUsize::new(0);
        let sign = || _ = signs.fetch_add(1, Ordering::Relaxed);
        let running = timers.run(&*bus, tokio::time::interval(Duration::from_secs(5)), sign, &stop);
        let _ = tokio::time::timeout(Duration::from_secs(22), running).await;
        // At once, with the first turn, and with four more.
        assert_eq!(signs.into_inner(), 6);
    }
}
