//! Carries rings from the bus to the engine: never more than it has room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_bus::Rings;
use windlass_model::Ring;

/// Rings taken from the bus at once.
const RINGS_PER_TURN_MAX: usize = 64;
/// Rings that were waiting already are here sooner.
const SILENCE_MIN: Duration = Duration::from_millis(10);

/// A ring that was taken, and room for its run.
pub(crate) struct Taken {
    pub(crate) ring: Ring,
    /// Given back when the run has been let go.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Room for so many runs at the same time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    /// There is room, and nobody rings right now.
    is_idle: Arc<AtomicBool>,
    /// It was so for a moment, since somebody asked.
    was_idle: Arc<AtomicBool>,
}

impl Room {
    pub(crate) fn for_runs(count: usize) -> Self {
        let places = Arc::new(Semaphore::new(count));
        Self { places, is_idle: Arc::default(), was_idle: Arc::default() }
    }

    pub(crate) fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// Whether there is room and nobody rings.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Relaxed)
    }

    /// Whether this was so at some moment since the last call.
    pub(crate) fn has_been_idle(&self) -> bool {
        self.was_idle.swap(false, Ordering::Relaxed) || self.is_idle()
    }

    /// Waits until there is room, and says for how many. Only who carries rings takes places, so they are still free
    /// when the rings have come; until then they are free for the sweep to count on.
    async fn wait(&self) -> usize {
        drop(self.places.acquire().await.expect("nobody closes this semaphore"));
        self.free_places()
    }

    fn take(&self) -> OwnedSemaphorePermit {
        self.places.clone().try_acquire_owned().expect("no more is taken than there are places")
    }
}

/// Carries rings as long as there is room, until `stop`. What is left with the bus may be done by another worker.
pub(crate) async fn carry(
    mut rings: Box<dyn Rings>,
    room: Room,
    to: mpsc::Sender<Taken>,
    stop: CancellationToken,
) {
    let carrying = async {
        loop {
            let free = room.wait().await;
            let began = Instant::now();
            room.is_idle.store(true, Ordering::Relaxed);
            let taken = rings.take(free.min(RINGS_PER_TURN_MAX)).await;
            room.is_idle.store(false, Ordering::Relaxed);
            if began.elapsed() > SILENCE_MIN {
                room.was_idle.store(true, Ordering::Relaxed);
            }
            for ring in taken {
                if to.send(Taken { ring, place: room.take() }).await.is_err() {
                    return;
                }
            }
        }
    };
    stop.run_until_cancelled(carrying).await;
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use windlass_bus::{Bus, InProcessBus};
    use windlass_model::{Priority, RunId, TenantId};

    use super::*;

    fn ring(n: u128) -> Ring {
        Ring { run_id: RunId(Uuid::from_u128(n)), tenant: TenantId(1), priority: Priority::Normal }
    }

    #[tokio::test]
    async fn a_small_worker_that_waits_has_room_for_what_a_sweep_finds() {
        let bus = InProcessBus::new();
        let (room, stop) = (Room::for_runs(1), CancellationToken::new());
        let (to, _from) = mpsc::channel(1);
        let carrying = tokio::spawn(carry(bus.rings(), room.clone(), to, stop.clone()));
        while !room.is_idle() {
            tokio::task::yield_now().await;
        }
        assert_eq!(room.free_places(), 1);
        stop.cancel();
        carrying.await.unwrap();
    }

    #[tokio::test]
    async fn no_more_is_taken_from_the_bus_than_there_is_room_for() {
        let bus = InProcessBus::new();
        for n in 0..10 {
            bus.ring(ring(n));
        }
        let (room, stop) = (Room::for_runs(3), CancellationToken::new());
        let (to, mut from) = mpsc::channel(100);
        let carrying = tokio::spawn(carry(bus.rings(), room.clone(), to, stop.clone()));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(from.recv().await.unwrap());
        }
        let more = tokio::time::timeout(Duration::from_millis(50), from.recv()).await;
        assert!(more.is_err() && room.free_places() == 0 && !room.is_idle());
        assert_eq!(bus.rings().take(100).await.len(), 7, "the rest is there for others");
        held.clear();
        bus.ring(ring(99));
        assert_eq!(from.recv().await.unwrap().ring, ring(99));
        tokio::time::timeout(Duration::from_secs(5), async {
            while !room.is_idle() {
                tokio::task::yield_now().await
            }
        })
        .await
        .expect("there is room, and nobody rings");
        stop.cancel();
        carrying.await.unwrap();
    }
}
