//! A whole worker over the memory store: doorbell, sweep, timers, drain.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_boot::Health;
use windlass_bus::{Bus, InProcessBus};
use windlass_engine::Secrets;
use windlass_model::event::RunCreated;
use windlass_model::workflow::{Document, Format, compile};
use windlass_model::{
    Actor, Command, Input, Payload, Priority, Ring, RunId, RunState, RunStatus, SessionId, TenantId,
    decide::decide,
};
use windlass_store::memory::MemoryStore;
use windlass_store::{Definition, Guard, NewRun, Outbox, Plans, RunWrite, Runs, Sessions, Store, Workflows};
use windlass_worker::nodes::{self, NodeOptions};
use windlass_worker::{WorkerOptions, WorkerParts};

struct House {
    store: Arc<MemoryStore>,
    plans: Arc<Plans>,
    bus: Arc<InProcessBus>,
    health: Health,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn ring(run_id: RunId, priority: Priority) -> Ring {
    Ring { run_id, tenant: TenantId::DEFAULT, priority }
}

impl House {
    fn new() -> Self {
        Self::draining_for(Duration::from_millis(200))
    }

    fn draining_for(drain_timeout: Duration) -> Self {
        let store = MemoryStore::new();
        let runners = nodes::all(&NodeOptions::default());
        let plans = Arc::new(Plans::new(store.clone() as Arc<dyn Store>, Arc::new(runners.catalog())));
        let bus = InProcessBus::new();
        let health = Health::default();
        let stop = CancellationToken::new();
        let parts = WorkerParts {
            session: SessionId(Uuid::new_v4()),
            store: store.clone(),
            plans: plans.clone(),
            bus: bus.clone(),
            runners,
            secrets: Secrets::default(),
            sink: None,
            health: health.clone(),
        };
        let options = WorkerOptions {
            sweep_interval: Duration::from_millis(100),
            drain_timeout,
            ..WorkerOptions::default()
        };
        let worker = tokio::spawn(windlass_worker::run(parts, options, stop.clone()));
        Self { store, plans, bus, health, stop, worker }
    }

    async fn create(&self, yaml: &str) -> RunId {
        let document = Document::parse(yaml, Format::Yaml).unwrap();
        let plan = compile(&document, self.plans.catalog()).unwrap();
        let definition =
            Definition { name: plan.name.clone(), hash: plan.hash.clone(), spec: document.spec.to_string() };
        let version = self.store.put_inline(TenantId::DEFAULT, definition).await.unwrap();
        let run_id = RunId(Uuid::now_v7());
        let now = self.store.now().await.unwrap();
        let created = RunCreated { inputs: Payload::from(json!({})), ..RunCreated::default() };
        let (event, state) = windlass_model::decide::create(&plan, run_id, created, Actor::user("ada"), now);
        self.store.create_run(NewRun::new(TenantId::DEFAULT, version, &state, event)).await.unwrap();
        run_id
    }

    async fn names(&self, run_id: RunId) -> Vec<&'static str> {
        let record = self.store.load_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
        record.events.iter().map(|event| event.body.name()).collect()
    }

    /// The door writes, and pokes nobody.
    async fn cancel_without_a_word(&self, run_id: RunId) {
        let record = self.store.load_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
        let plan = self.plans.get(record.row.version_id).await.unwrap();
        let mut state = RunState::fold(&plan, run_id, record.snapshot, &record.events).unwrap();
        let input = Input::Command { command: Command::Cancel { reason: None }, actor: Actor::user("ada") };
        let events = decide(&plan, &mut state, input, self.store.now().await.unwrap()).unwrap();
        let (version, is_held) = (record.row.version, record.row.lease_owner.is_some());
        let write = RunWrite::new(TenantId::DEFAULT, Guard::Door, version, &plan, &state, events, is_held);
        self.store.write_run(write).await.unwrap();
    }

    async fn until(&self, run_id: RunId, status: RunStatus) {
        let mut seen = None;
        for _ in 0..500 {
            let row = self.store.get_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
            seen = Some(row.status);
            if row.status == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the run is {seen:?}, not {status:?}");
    }

    async fn close(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.worker).await.unwrap().unwrap().unwrap();
    }
}

const NOOP: &str = "{version: 1, name: one, type: steps, steps: [{id: a, type: noop}]}";

#[tokio::test]
async fn a_ring_moves_a_run_and_the_sweep_finds_one_that_nobody_rang_for() {
    let house = House::new();
    let rung = house.create(NOOP).await;
    house.bus.ring(ring(rung, Priority::Normal));
    house.until(rung, RunStatus::Completed).await;
    let forgotten = house.create(NOOP).await;
    house.until(forgotten, RunStatus::Completed).await;
    assert!(house.health.loops().iter().all(|(_, alive)| *alive), "{:?}", house.health.loops());
    house.close().await;
}

/// Judging nobody is for outages that are longer than this one.
#[tokio::test]
async fn a_sweep_that_failed_finds_at_its_next_turn_what_nobody_rang_for() {
    let house = House::new();
    let before = house.create(NOOP).await;
    house.until(before, RunStatus::Completed).await;
    house.store.faults().fail_next(6);
    tokio::time::sleep(Duration::from_millis(600)).await;
    house.store.faults().fail_next(0);
    let forgotten = house.create(NOOP).await;
    let found = tokio::time::timeout(Duration::from_secs(2), house.until(forgotten, RunStatus::Completed));
    found.await.expect("sooner than a session ends");
    house.close().await;
}

#[tokio::test]
async fn a_parked_run_wakes_at_its_time() {
    let house = House::new();
    let run_id = house
        .create("{version: 1, name: w, type: steps, steps: [{id: w, type: wait, for: 700ms}, {id: a, type: noop}]}")
        .await;
    house.until(run_id, RunStatus::Waiting).await;
    let row = house.store.get_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
    assert_eq!(row.lease_owner, None, "a run that waits is let go");
    house.until(run_id, RunStatus::Completed).await;
    let record = house.store.load_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
    let at = |name: &str| record.events.iter().find(|event| event.body.name() == name).unwrap().at;
    let late = at("step.waiting").until(at("timer.fired")).saturating_sub(Duration::from_millis(700));
    assert!(late < Duration::from_millis(250), "{late:?} late");
    house.close().await;
}

#[tokio::test]
async fn a_ring_for_a_run_that_does_not_exist_harms_nothing() {
    let house = House::new();
    house.bus.ring(ring(RunId(Uuid::now_v7()), Priority::High));
    let run_id = house.create(NOOP).await;
    house.bus.ring(ring(run_id, Priority::Normal));
    house.until(run_id, RunStatus::Completed).await;
    house.close().await;
}

#[tokio::test]
async fn a_stopped_worker_has_let_go_of_every_run_and_closed_its_session() {
    let house = House::new();
    let run_id = house
        .create("{version: 1, name: s, type: steps, steps: [{id: s, type: script, command: [sleep, '30'], retry_safe: true}]}")
        .await;
    house.bus.ring(ring(run_id, Priority::Normal));
    house.until(run_id, RunStatus::Running).await;
    let store = house.store.clone();
    house.close().await;
    let row = store.get_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
    assert_eq!((row.status, row.lease_owner), (RunStatus::Queued, None));
}

#[tokio::test]
async fn a_worker_that_drains_hears_what_nobody_poked_it_about() {
    let house = House::draining_for(Duration::from_secs(30));
    let run_id = house
        .create("{version: 1, name: s, type: steps, steps: [{id: s, type: script, command: [sleep, '60'], retry_safe: true}]}")
        .await;
    house.bus.ring(ring(run_id, Priority::Normal));
    while !house.names(run_id).await.contains(&"step.started") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.stop.cancel();
    house.cancel_without_a_word(run_id).await;
    // What is in flight is stopped, long before the drain is over; what follows is for another worker.
    let store = house.store.clone();
    house.close().await;
    let row = store.get_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
    assert_eq!((row.status, row.lease_owner), (RunStatus::Canceling, None));
}

#[tokio::test]
async fn emitted_events_leave_the_outbox() {
    let house = House::new();
    let run_id = house
        .create("{version: 1, name: e, type: steps, steps: [{id: e, type: emit, event: {type: order.paid, data: {n: 1}}}]}")
        .await;
    house.bus.ring(ring(run_id, Priority::Normal));
    house.until(run_id, RunStatus::Completed).await;
    for _ in 0..300 {
        if house.store.read_outbox(10).await.unwrap().is_empty() {
            return house.close().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the outbox was never emptied");
}
