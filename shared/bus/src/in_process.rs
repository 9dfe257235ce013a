//! The bus of a single process: queues and broadcast channels.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{Notify, broadcast, mpsc};
use windlass_model::{Event, Priority, RunId, SessionId};

use crate::{Bus, News, Subscription};

/// Rings that wait for a worker; further ones are dropped and left to the sweep.
const RINGS_MAX: usize = 100_000;
/// News that a slow watcher may be behind before it has to read the log.
const NEWS_BUFFERED_MAX: usize = 1_024;

/// Below this many watched runs it is not worth looking for those that nobody watches any more.
const WATCHED_KEPT_MIN: usize = 64;

/// Doorbell and hot wire inside one process.
pub struct InProcessBus {
    rings: Arc<RingQueue>,
    pokes: mpsc::UnboundedSender<RunId>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    runs: HashMap<RunId, broadcast::Sender<News>>,
    /// How many runs there may be before those that nobody watches any more are forgotten.
    forget_at: usize,
}

/// The worker's end of the doorbell.
pub struct Rings(Arc<RingQueue>);

/// The engine's end of the pokes.
pub type Pokes = mpsc::UnboundedReceiver<RunId>;

#[derive(Default)]
struct RingQueue {
    lanes: Mutex<Lanes>,
    rung: Notify,
}

#[derive(Default)]
struct Lanes {
    by_priority: [VecDeque<RunId>; Priority::ALL.len()],
    /// A run that is rung twice before anyone answers waits once.
    waiting: HashSet<RunId>,
}

impl InProcessBus {
    pub fn new() -> (Arc<Self>, Rings, Pokes) {
        let rings = Arc::new(RingQueue::default());
        let (pokes, poked) = mpsc::unbounded_channel();
        (Arc::new(Self { rings: rings.clone(), pokes, watched: Mutex::default() }), Rings(rings), poked)
    }

    fn send(&self, run_id: RunId, news: impl IntoIterator<Item = News>) {
        let mut watched = self.watched.lock().expect("no panic while holding it");
        if let Some(sender) = watched.runs.get(&run_id) {
            if sender.receiver_count() == 0 {
                watched.runs.remove(&run_id);
                return;
            }
            for item in news {
                // Nobody listening any more is no error.
                let _ = sender.send(item);
            }
        }
    }
}

impl Rings {
    /// Waits for rings and takes up to `limit` of them, the highest priority first.
    pub async fn take(&self, limit: usize) -> Vec<RunId> {
        loop {
            let rung = self.0.rung.notified();
            let taken = self.0.take_now(limit);
            if !taken.is_empty() {
                return taken;
            }
            rung.await;
        }
    }
}

impl RingQueue {
    fn take_now(&self, limit: usize) -> Vec<RunId> {
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

#[async_trait]
impl Bus for InProcessBus {
    fn ring(&self, run_id: RunId, priority: Priority) {
        let mut lanes = self.rings.lanes.lock().expect("no panic while holding it");
        if lanes.waiting.len() < RINGS_MAX && lanes.waiting.insert(run_id) {
            lanes.by_priority[priority.rank() as usize].push_back(run_id);
            drop(lanes);
            self.rings.rung.notify_one();
        }
    }

    fn poke(&self, _session: SessionId, run_id: RunId) {
        // One process, one session. A closed channel means that the engine has stopped.
        let _ = self.pokes.send(run_id);
    }

    fn publish(&self, run_id: RunId, events: &[Event]) {
        self.send(run_id, events.iter().map(|event| News::Event(Arc::new(event.clone()))));
    }

    fn publish_progress(&self, run_id: RunId, progress: Value) {
        self.send(run_id, [News::Progress(Arc::new(progress))]);
    }

    async fn subscribe(&self, run_id: RunId) -> Subscription {
        let mut watched = self.watched.lock().expect("no panic while holding it");
        let Watched { runs, forget_at } = &mut *watched;
        if runs.len() >= *forget_at {
            // A run that has ended publishes nothing that would show that its watchers have gone.
            runs.retain(|_, sender| sender.receiver_count() > 0);
            *forget_at = (runs.len() * 2).max(WATCHED_KEPT_MIN);
        }
        runs.entry(run_id).or_insert_with(|| broadcast::channel(NEWS_BUFFERED_MAX).0).subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_id(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn higher_priorities_are_taken_first_and_a_run_waits_once() {
        let (bus, rings, _pokes) = InProcessBus::new();
        bus.ring(run_id(1), Priority::Low);
        bus.ring(run_id(2), Priority::Normal);
        bus.ring(run_id(3), Priority::High);
        bus.ring(run_id(2), Priority::Normal);
        assert_eq!(rings.take(2).await, [run_id(3), run_id(2)]);
        assert_eq!(rings.take(10).await, [run_id(1)]);
    }

    #[tokio::test]
    async fn nothing_is_kept_for_runs_that_nobody_watches() {
        let (bus, _rings, _pokes) = InProcessBus::new();
        let mut watcher = bus.subscribe(run_id(1)).await;
        bus.publish_progress(run_id(1), 1.into());
        bus.publish_progress(run_id(2), 2.into());
        assert!(matches!(watcher.recv().await, Ok(News::Progress(n)) if *n == 1));
        drop(watcher);
        bus.publish_progress(run_id(1), 3.into());
        assert!(bus.watched.lock().unwrap().runs.is_empty());
    }
    #[tokio::test]
    async fn runs_that_say_nothing_any_more_are_forgotten() {
        let (bus, _rings, _pokes) = InProcessBus::new();
        let kept = bus.subscribe(run_id(1)).await;
        for n in 2..1_000 {
            bus.subscribe(run_id(n)).await;
        }
        assert!(bus.watched.lock().unwrap().runs.len() <= WATCHED_KEPT_MIN);
        assert!(bus.watched.lock().unwrap().runs.contains_key(&run_id(1)));
        drop(kept);
    }
}
