//! The engine of a worker process: which runs it holds, and how news reaches them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use windlass_bus::Bus;
use windlass_model::{Ring, RunId, TenantId};
use windlass_store::{Plans, Store, StoreError, point};

use crate::held::{HeldRun, Message};
use crate::timers::NearTimers;
use crate::{Clock, Lease, Runners, Secrets, groups};

/// Everything an engine works with.
pub struct EngineParts {
    pub store: Arc<dyn Store>,
    pub plans: Arc<Plans>,
    pub bus: Arc<dyn Bus>,
    pub runners: Runners,
    pub secrets: Secrets,
    pub lease: Arc<Lease>,
    pub clock: Arc<Clock>,
    pub options: EngineOptions,
}

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// A held run that was silent for this long may be taken by another engine.
    pub stale_after: Duration,
    /// Timers due within this time are kept in memory when their run parks.
    pub near_timer_horizon: Duration,
    /// How many runs may stand above one that a step starts.
    pub child_depth_max: u32,
    /// How long a drain waits for attempts in flight before it gives them up.
    pub drain_timeout: Duration,
    /// Makes the id of a run that a step starts.
    pub new_run_id: fn() -> RunId,
}

pub struct Engine {
    pub(crate) parts: EngineParts,
    /// Runs in the hands of this process, and the way to each.
    held: Mutex<HashMap<RunId, Hold>>,
    /// Runs taken since this process began.
    taken: AtomicU64,
    timers: NearTimers,
    pub(crate) draining: CancellationToken,
    /// When a drain gives up what is still in flight.
    pub(crate) drain_ends_at: OnceLock<Instant>,
}

struct Hold {
    inbox: mpsc::UnboundedSender<Message>,
    /// Somebody rang while the run was held; it may have been just too late to be seen.
    rung: bool,
}

impl Engine {
    pub fn new(parts: EngineParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            held: Mutex::default(),
            taken: AtomicU64::new(0),
            timers: NearTimers::default(),
            draining: CancellationToken::new(),
            drain_ends_at: OnceLock::new(),
        })
    }

    /// Takes a run, moves it as far as it goes, and lets it go again.
    ///
    /// Returns at once when the run is held already, or when there is nothing to take.
    pub async fn drive(self: &Arc<Self>, ring: Ring) {
        let run_id = ring.run_id;
        if self.is_draining() {
            return;
        }
        let Some((_place, inbox)) = Place::take(self.clone(), ring) else { return };
        self.parts.lease.until_safe().await;
        point("engine.before_claim");
        // Boxed, as other detours are: hundreds of runs are held at a time, and each would carry room for it all along.
        match Box::pin(HeldRun::claim(self.clone(), run_id, inbox)).await {
            Ok(Some(mut run)) => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                run.run().await;
            }
            Ok(None) => debug!(run.id = %run_id, "Nothing to take"),
            Err(error) => {
                error!(run.id = %run_id, error = %error, "Run could not be taken; the sweep will try again")
            }
        }
    }

    /// The door wrote to a run that this process holds.
    pub fn poke(&self, ring: Ring) {
        let mut held = self.held.lock().expect("no panic while holding it");
        match held.get_mut(&ring.run_id) {
            // A run that is just being let go no longer listens.
            Some(hold) => hold.rung |= hold.inbox.send(Message::Moved).is_err(),
            None => {
                drop(held);
                self.parts.bus.ring(ring);
            }
        }
    }

    /// Rings for a parked run when its time has come, if that is soon. Here, and not everywhere: the sweeps of other
    /// workers find it as well, and what waits for any worker shall not keep it waiting.
    pub fn wake(&self, ring: Ring, after: Duration) {
        if after.is_zero() {
            self.parts.bus.ring_here(ring);
        } else if after <= self.parts.options.near_timer_horizon {
            self.timers.add(ring, after);
        }
    }

    /// Gives free places of a concurrency group to those whose turn it is.
    ///
    /// # Errors
    /// When the database does not answer; the group stays to be found.
    pub async fn admit(&self, tenant: TenantId, group: &str) -> Result<(), StoreError> {
        groups::admit(&self.parts, tenant, group, None).await.map(drop)
    }

    /// Wakes runs whose near timers are due, until `stop`; gives a `sign` of life whenever `turns` does.
    pub async fn run_timers(&self, turns: Interval, sign: impl Fn(), stop: &CancellationToken) {
        self.timers.run(&*self.parts.bus, turns, sign, stop).await;
    }

    /// Starts nothing new; held runs finish what is in flight, within the drain timeout, and are released.
    pub fn drain(&self) {
        self.drain_ends_at.get_or_init(|| Instant::now() + self.parts.options.drain_timeout);
        self.draining.cancel();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// How many runs this engine has taken so far.
    pub fn taken_count(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn held_count(&self) -> usize {
        self.held.lock().expect("no panic while holding it").len()
    }
}

/// A place among the held runs, given back when dropped: also by a panic.
struct Place {
    engine: Arc<Engine>,
    ring: Ring,
}

impl Place {
    fn take(engine: Arc<Engine>, ring: Ring) -> Option<(Self, mpsc::UnboundedReceiver<Message>)> {
        let (sender, inbox) = mpsc::unbounded_channel();
        match engine.held.lock().expect("no panic while holding it").entry(ring.run_id) {
            Entry::Occupied(mut hold) => {
                hold.get_mut().rung = true;
                return None;
            }
            Entry::Vacant(place) => place.insert(Hold { inbox: sender, rung: false }),
        };
        Some((Self { engine, ring }, inbox))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let hold = self.engine.held.lock().expect("no panic while holding it").remove(&self.ring.run_id);
        if hold.is_some_and(|hold| hold.rung) {
            self.engine.parts.bus.ring(self.ring);
        }
    }
}
