//! Near timers: rings the doorbell for parked runs at the moment they are due.
//!
//! The database keeps every timer; this only spares those of the next moments the wait for a sweep.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
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

    pub(crate) async fn run(&self, bus: &dyn Bus, stop: &CancellationToken) {
        loop {
            let next = self.ring_due(bus);
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep => {}
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
