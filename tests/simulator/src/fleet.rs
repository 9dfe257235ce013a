//! The processes of one world, and what is done to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::schedule::{Schedule, What};
use crate::whose::Whose;
use crate::workflows::Library;
use crate::world::World;
use crate::world::api::Api;
use crate::world::worker::Worker;

/// How often somebody looks whether a draining worker has stopped.
const GLANCE_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Fleet {
    pub(crate) world: Arc<World>,
    pub(crate) library: Arc<Library>,
    /// Whose runs there may be.
    pub(crate) tenants: &'static [Whose],
    workers: Mutex<Vec<Worker>>,
    api: Mutex<Arc<Api>>,
    /// How many processes were started.
    born: Mutex<u32>,
}

impl Fleet {
    pub(crate) fn start(world: Arc<World>, library: Arc<Library>, schedule: &Schedule) -> Arc<Self> {
        let tenants = schedule.tenants();
        library.publish(&world.database, tenants);
        let api = Mutex::new(Api::start(&world, &library, tenants, "api-0".to_owned()));
        let fleet = Self { world, library, tenants, workers: Mutex::default(), api, born: Mutex::new(0) };
        let started = (0..schedule.workers).map(|_| fleet.new_worker()).collect();
        *fleet.workers.lock().expect("one thread") = started;
        Arc::new(fleet)
    }

    pub(crate) fn api(&self) -> Arc<Api> {
        self.api.lock().expect("one thread").clone()
    }

    fn new_worker(&self) -> Worker {
        let name = format!("worker-{}", self.next());
        Worker::start(&self.world, &self.library, self.tenants, name)
    }

    fn next(&self) -> u32 {
        let mut born = self.born.lock().expect("one thread");
        *born += 1;
        *born
    }

    /// Does what a schedule says to a process, or to what lies between them.
    pub(crate) fn suffer(self: &Arc<Self>, fault: &What) {
        let world = &self.world;
        world.note(format_args!("FAULT {fault:?}"));
        let millis = Duration::from_millis;
        match *fault {
            What::Crash { worker, back_after_ms } => {
                world.reach.hit("worker_crashed");
                self.on(worker, Worker::kill);
                self.replace_after(worker, millis(back_after_ms));
            }
            What::Freeze { worker, for_ms } => {
                world.reach.hit("worker_froze");
                self.on(worker, |worker| worker.process.freeze(millis(for_ms)));
            }
            What::CutOff { worker, for_ms } => {
                world.reach.hit("worker_cut_off");
                self.on(worker, |worker| worker.process.cut_off(millis(for_ms)));
            }
            What::Drain { worker } => {
                world.reach.hit("worker_drained");
                self.on(worker, |worker| {
                    world.drains(worker.session);
                    worker.drain();
                });
                self.replace_when_stopped(worker);
            }
            What::CrashApi { back_after_ms } => {
                world.reach.hit("api_crashed");
                self.api().process.kill();
                let fleet = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(millis(back_after_ms)).await;
                    fleet.mend_api();
                });
            }
            What::DatabaseAway { for_ms } => world.take_database_away(millis(for_ms)),
            What::WireDown { for_ms } => world.take_wire_down(millis(for_ms)),
            What::LoseAnswer { applied } => world.lose_next_answer(applied),
            What::Jump { by_ms } => world.jump(millis(by_ms)),
            What::Start { .. }
            | What::Ask { .. }
            | What::Pry { .. }
            | What::Publish { .. }
            | What::Watch { .. }
            | What::Plan { .. }
            | What::Trigger { .. } => {}
        }
    }

    fn on(&self, place: usize, deed: impl FnOnce(&Worker)) {
        if let Some(worker) = self.workers.lock().expect("one thread").get(place) {
            deed(worker);
        }
    }

    fn replace_after(self: &Arc<Self>, place: usize, pause: Duration) {
        let fleet = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            fleet.mend(place);
        });
    }

    fn replace_when_stopped(self: &Arc<Self>, place: usize) {
        let fleet = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(GLANCE_EVERY).await;
                let mut stopped = true;
                fleet.on(place, |worker| stopped = worker.has_stopped());
                if stopped {
                    return fleet.mend(place);
                }
            }
        });
    }

    /// Starts another worker where one has ended.
    fn mend(&self, place: usize) {
        let mut has_ended = false;
        self.on(place, |worker| has_ended = worker.has_stopped());
        if has_ended {
            let worker = self.new_worker();
            self.workers.lock().expect("one thread")[place] = worker;
        }
    }

    fn mend_api(&self) {
        if self.api().process.is_dead() {
            let name = format!("api-{}", self.next());
            let api = Api::start(&self.world, &self.library, self.tenants, name);
            *self.api.lock().expect("one thread") = api;
        }
    }

    /// Everybody lives, and everything arrives.
    pub(crate) fn heal(self: &Arc<Self>) {
        self.world.note(format_args!("HEAL"));
        self.world.heal();
        self.mend_api();
        let count = self.workers.lock().expect("one thread").len();
        for place in 0..count {
            self.on(place, |worker| worker.process.heal());
            self.mend(place);
        }
    }

    pub(crate) fn kill_workers(&self) {
        self.workers.lock().expect("one thread").iter().for_each(Worker::kill);
    }
}
