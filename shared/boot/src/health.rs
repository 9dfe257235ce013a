//! Whether the background loops of this process still turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A loop that has missed this many of its periods makes the process not ready.
const PERIODS_MISSED_MAX: u32 = 3;

/// The loops of this process, by name.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Loop>>>);

struct Loop {
    period: Duration,
    last_beat: Instant,
}

/// Held by one loop.
pub struct Beat {
    health: Health,
    name: &'static str,
}

impl Health {
    /// Registers a loop that promises to beat at least every `period`.
    pub fn register(&self, name: &'static str, period: Duration) -> Beat {
        let entry = Loop { period, last_beat: Instant::now() };
        self.0.lock().expect("no panic while holding it").insert(name, entry);
        Beat { health: self.clone(), name }
    }

    /// Every loop, and whether it keeps its promise.
    pub fn loops(&self) -> Vec<(&'static str, bool)> {
        let loops = self.0.lock().expect("no panic while holding it");
        loops
            .iter()
            .map(|(name, it)| (*name, it.last_beat.elapsed() <= it.period * PERIODS_MISSED_MAX))
            .collect()
    }
}

impl Beat {
    pub fn beat(&self) {
        if let Some(it) = self.health.0.lock().expect("no panic while holding it").get_mut(self.name) {
            it.last_beat = Instant::now();
        }
    }
}
