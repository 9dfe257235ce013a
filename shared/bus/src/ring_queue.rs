//! Rings that wait inside one process.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use windlass_model::{Priority, RunId};

/// Rings that wait for a worker; further ones are dropped and left to the sweep.
const RINGS_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct RingQueue {
    lanes: Mutex<Lanes>,
    rung: Notify,
}

#[derive(Default)]
struct Lanes {
    by_priority: [VecDeque<RunId>; Priority::ALL.len()],
    /// A run that is rung twice before anyone answers waits once.
    waiting: HashSet<RunId>,
}

impl RingQueue {
    pub(crate) fn push(&self, run_id: RunId, priority: Priority) {
        let mut lanes = self.lanes.lock().expect("no panic while holding it");
        if lanes.waiting.len() < RINGS_MAX && lanes.waiting.insert(run_id) {
            lanes.by_priority[priority.rank() as usize].push_back(run_id);
            drop(lanes);
            self.rung.notify_one();
        }
    }

    /// Completes when something was pushed since it was made.
    pub(crate) fn rung(&self) -> Notified<'_> {
        self.rung.notified()
    }

    /// Up to `limit` that wait right now, the highest priority first.
    pub(crate) fn take_now(&self, limit: usize) -> Vec<RunId> {
        let mut lanes = self.lanes.lock().expect("no panic while holding it");
        let Lanes { by_priority, waiting } = &mut *lanes;
        let taken: Vec<RunId> = by_priority
            .iter_mut()
            .flat_map(|lane| std::iter::from_fn(|| lane.pop_front()))
            .take(limit)
            .collect();
        for run_id in &taken {
            waiting.remove(run_id);
        }
        taken
    }
}
