//! The bus of a single process: queues and broadcast channels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};
use windlass_model::{Event, Ring, RunId, SessionId};

use crate::ring_queue::RingQueue;
use crate::{Bus, NEWS_BUFFERED_MAX, News, POKES_WAITING_MAX, Pokes, Rings, Subscription};

/// Below this many watched runs it is not worth looking for those that nobody watches any more.
const WATCHED_KEPT_MIN: usize = 64;

/// Doorbell and hot wire inside one process.
#[derive(Default)]
pub struct InProcessBus {
    rings: Arc<RingQueue>,
    /// One process, one session: the way to the engine that asked last.
    pokes: Mutex<Option<mpsc::Sender<Ring>>>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    runs: HashMap<RunId, broadcast::Sender<News>>,
    /// How many runs there may be before those that nobody watches any more are forgotten.
    forget_at: usize,
}

struct InProcessRings(Arc<RingQueue>);

impl InProcessBus {
    pub fn new() -> Arc<Self> {
        Arc::default()
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

#[async_trait]
impl Rings for InProcessRings {
    async fn take(&mut self, limit: usize) -> Vec<Ring> {
        loop {
            let rung = self.0.rung();
            let taken = self.0.take_now(limit);
            if !taken.is_empty() {
                return taken;
            }
            rung.await;
        }
    }
}

#[async_trait]
impl Bus for InProcessBus {
    fn ring(&self, ring: Ring) {
        self.rings.push(ring);
    }

    fn ring_here(&self, ring: Ring) {
        self.rings.push(ring);
    }

    fn poke(&self, _session: SessionId, ring: Ring) {
        if let Some(pokes) = &*self.pokes.lock().expect("no panic while holding it") {
            // A closed channel means that the engine has stopped, a full one that the heartbeat will find it.
            let _ = pokes.try_send(ring);
        }
    }

    fn publish(&self, run_id: RunId, events: Vec<Event>) {
        self.send(run_id, events.into_iter().map(|event| News::Event(Arc::new(event))));
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

    fn rings(&self) -> Box<dyn Rings> {
        Box::new(InProcessRings(self.rings.clone()))
    }

    fn pokes(&self, _session: SessionId) -> Pokes {
        let (pokes, poked) = mpsc::channel(POKES_WAITING_MAX);
        *self.pokes.lock().expect("no panic while holding it") = Some(pokes);
        poked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use windlass_model::{Priority, TenantId};

    fn run_id(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    fn ring(n: u128, priority: Priority) -> Ring {
        Ring { run_id: run_id(n), tenant: TenantId(1), priority }
    }

    #[tokio::test]
    async fn higher_priorities_are_taken_first_and_a_run_waits_once() {
        let bus = InProcessBus::new();
        let mut rings = bus.rings();
        let (low, normal, high) =
            (ring(1, Priority::Low), ring(2, Priority::Normal), ring(3, Priority::High));
        for ring in [low, normal, high, normal] {
            bus.ring(ring);
        }
        assert_eq!(rings.take(2).await, [high, normal]);
        assert_eq!(rings.take(10).await, [low]);
    }

    #[tokio::test]
    async fn nothing_is_kept_for_runs_that_nobody_watches() {
        let bus = InProcessBus::new();
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
        let bus = InProcessBus::new();
        let _kept = bus.subscribe(run_id(1)).await;
        for n in 2..1_000 {
            bus.subscribe(run_id(n)).await;
        }
        let watched = bus.watched.lock().unwrap();
        assert!(watched.runs.len() <= WATCHED_KEPT_MIN && watched.runs.contains_key(&run_id(1)));
    }

    #[tokio::test]
    async fn pokes_before_there_is_an_engine_are_dropped() {
        let (bus, session) = (InProcessBus::new(), SessionId(uuid::Uuid::nil()));
        bus.poke(session, ring(1, Priority::Normal));
        let mut pokes = bus.pokes(session);
        bus.poke(session, ring(2, Priority::Normal));
        assert_eq!(pokes.recv().await, Some(ring(2, Priority::Normal)));
    }
}
