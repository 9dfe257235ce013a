//! The bus as one process reaches it. Nothing on it is safe: rings get lost, come twice, late and out of order.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;
use windlass_bus::{Bus, Pokes, Rings, Subscription};
use windlass_model::{Event, Ring, RunId, SessionId};

use super::World;
use super::process::Process;

/// Pokes that may wait for a busy engine.
const POKES_WAITING_MAX: usize = 1_000;
/// How late a message may be that is late.
const LATE_MAX: Duration = Duration::from_millis(3_000);

pub(crate) struct Wire {
    pub(super) world: Arc<World>,
    pub(super) process: Arc<Process>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriage {
    Arrives,
    Lost,
    Late(Duration),
    Twice(Duration),
}

impl Wire {
    /// None: the process is dead and says nothing any more.
    fn carriage(&self, what: &'static str) -> Option<Carriage> {
        if self.process.is_dead() {
            return None;
        }
        let noise = self.world.noise();
        let carriage = self.world.draw(|chance| {
            let dice = chance.below(1_000);
            if dice < u64::from(noise.lost) {
                Carriage::Lost
            } else if dice < u64::from(noise.lost + noise.late) {
                Carriage::Late(chance.between(Duration::from_millis(1), LATE_MAX))
            } else if dice < u64::from(noise.lost + noise.late + noise.twice) {
                Carriage::Twice(chance.between(Duration::ZERO, LATE_MAX))
            } else {
                Carriage::Arrives
            }
        });
        let carriage = if self.world.is_wire_down() { Carriage::Lost } else { carriage };
        self.world.note(format_args!("{} {what} {carriage:?}", self.process.name));
        Some(carriage)
    }

    fn send(
        &self,
        what: &'static str,
        about: RunId,
        reach: [&'static str; 3],
        deliver: impl Fn(&World) + Send + 'static,
    ) {
        let Some(carriage) = self.carriage(what) else { return };
        let thaw = self.process.clone();
        let world = self.world.clone();
        let [lost, late, twice] = reach;
        let (now, later) = match carriage {
            Carriage::Arrives if !self.process.is_frozen() => (true, None),
            Carriage::Arrives => (false, Some(Duration::ZERO)),
            Carriage::Lost => {
                world.reach.hit(lost);
                if what != "publishes" && world.has_news_of_children(about) {
                    world.reach.hit("parent_was_not_told");
                }
                return;
            }
            Carriage::Late(by) => {
                world.reach.hit(late);
                (false, Some(by))
            }
            Carriage::Twice(by) => {
                world.reach.hit(twice);
                (true, Some(by))
            }
        };
        if now {
            deliver(&world);
        }
        if let Some(by) = later {
            tokio::spawn(async move {
                thaw.passes().await;
                tokio::time::sleep(by).await;
                deliver(&world);
            });
        }
    }
}

#[async_trait]
impl Bus for Wire {
    fn ring(&self, ring: Ring) {
        let reach = ["doorbell_lost", "doorbell_late", "doorbell_twice"];
        self.send("rings", ring.run_id, reach, move |world| world.wire.ring(ring));
    }

    fn ring_here(&self, ring: Ring) {
        if !self.process.is_dead() {
            self.world.wire.ring_here(ring);
        }
    }

    fn poke(&self, session: SessionId, ring: Ring) {
        let reach = ["poke_lost", "poke_late", "poke_twice"];
        self.send("pokes", ring.run_id, reach, move |world| world.poke(session, ring));
    }

    fn publish(&self, run_id: RunId, events: Vec<Event>) {
        let reach = ["news_lost", "news_late", "news_twice"];
        self.send("publishes", run_id, reach, move |world| world.wire.publish(run_id, events.clone()));
    }

    fn publish_progress(&self, run_id: RunId, progress: Value) {
        if !self.process.is_dead() {
            self.world.wire.publish_progress(run_id, progress);
        }
    }

    async fn subscribe(&self, run_id: RunId) -> Subscription {
        self.process.passes().await;
        self.world.wire.subscribe(run_id).await
    }

    fn rings(&self) -> Box<dyn Rings> {
        Box::new(Ears { inner: self.world.wire.rings(), process: self.process.clone() })
    }

    fn pokes(&self, session: SessionId) -> Pokes {
        let (sender, receiver) = mpsc::channel(POKES_WAITING_MAX);
        self.world.listens(session, sender);
        receiver
    }
}

/// A worker's end of the doorbell, which ends with the worker.
struct Ears {
    inner: Box<dyn Rings>,
    process: Arc<Process>,
}

#[async_trait]
impl Rings for Ears {
    async fn take(&mut self, limit: usize) -> Vec<Ring> {
        self.process.passes().await;
        let taken = tokio::select! {
            biased;
            () = self.process.death() => std::future::pending().await,
            taken = self.inner.take(limit) => taken,
        };
        // Taken and not answered: what a process that dies here has in its hands is lost.
        self.process.passes().await;
        taken
    }
}
