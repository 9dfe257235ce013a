//! The engine over the memory store: what it commits, what it survives, what it lets go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;
use windlass_bus::{Bus, InProcessBus};
use windlass_engine::{
    Clock, Done, Engine, EngineOptions, EngineParts, Failure, Lease, Runner, Runners, Secrets, StepContext,
};
use windlass_model::event::RunCreated;
use windlass_model::workflow::{Document, Format, KindSpec, compile};
use windlass_model::{
    Actor, Command, EventBody, Input, Plan, Priority, Ring, RunId, RunState, RunStatus, SessionId, TenantId,
    decide,
};
use windlass_store::memory::MemoryStore;
use windlass_store::{Definition, Guard, NewRun, Plans, RunWrite, Runs, Sessions, Store, Workflows};

const TTL: Duration = Duration::from_secs(5);

/// Records what it did; waits at a barrier when the test asks it to.
#[derive(Default)]
struct Deeds {
    done: Mutex<Vec<String>>,
    /// What this thread had used of a processor at each deed.
    cpu_ns: Mutex<Vec<u64>>,
    holds: AtomicUsize,
    go_on: Notify,
}

struct Work {
    name: &'static str,
    retry_safe: fn(&serde_json::Value) -> bool,
    deeds: Arc<Deeds>,
}

#[async_trait]
impl Runner for Work {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: self.name,
            summary: "records its deed",
            params: || json!({"type": "object"}),
            retry_safe: self.retry_safe,
        }
    }

    fn deeds(&self) -> Vec<KindSpec> {
        if self.name == "tool" { vec![KindSpec { name: "noop", ..self.spec() }] } else { Vec::new() }
    }

    async fn run(&self, step: StepContext) -> Result<Done, Failure> {
        self.deeds.done.lock().unwrap().push(step.idempotency_key.clone());
        self.deeds.cpu_ns.lock().unwrap().push(cpu_ns());
        if self.deeds.holds.load(Ordering::SeqCst) > 0 && self.name != "quick" {
            tokio::select! {
                () = self.deeds.go_on.notified() => {}
                () = step.cancel.cancelled() => {
                    return Err(windlass_model::StepError::new("canceled", "stopped").into());
                }
            }
        }
        Ok(Done::new(json!({ "node": step.node })))
    }
}

/// The processor time of this thread: that of others does not count, however busy they are.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("it is a number")
}

struct House {
    store: Arc<MemoryStore>,
    plans: Arc<Plans>,
    bus: Arc<InProcessBus>,
    runners: Runners,
    deeds: Arc<Deeds>,
}

impl House {
    fn new() -> Self {
        let store = MemoryStore::new();
        let deeds = Arc::new(Deeds::default());
        let runners = Runners::new([
            Arc::new(Work { name: "noop", retry_safe: |_| true, deeds: deeds.clone() }) as Arc<dyn Runner>,
            Arc::new(Work { name: "work", retry_safe: |_| false, deeds: deeds.clone() }),
            Arc::new(Work { name: "quick", retry_safe: |_| true, deeds: deeds.clone() }),
            Arc::new(Work { name: "tool", retry_safe: |_| false, deeds: deeds.clone() }),
        ]);
        let plans = Arc::new(Plans::new(store.clone() as Arc<dyn Store>, Arc::new(runners.catalog())));
        let bus = InProcessBus::new();
        Self { store, plans, bus, runners, deeds }
    }

    async fn engine(&self) -> Arc<Engine> {
        self.engine_with_lease(Duration::from_secs(3600)).await.0
    }

    /// An engine that believes for so long, less a quarter, that it owns its runs.
    async fn engine_with_lease(&self, ttl: Duration) -> (Arc<Engine>, Arc<Lease>) {
        let lease = Arc::new(Lease::new(SessionId(Uuid::new_v4())));
        let now = self.store.renew_session(lease.session(), TTL).await.unwrap();
        lease.renewed(tokio::time::Instant::now(), ttl);
        let engine = Engine::new(EngineParts {
            store: self.store.clone(),
            plans: self.plans.clone(),
            bus: self.bus.clone(),
            runners: self.runners.clone(),
            secrets: Secrets::default(),
            lease: lease.clone(),
            clock: Arc::new(Clock::new(now)),
            options: EngineOptions {
                stale_after: Duration::from_secs(60),
                near_timer_horizon: Duration::from_secs(2),
                child_depth_max: 3,
                drain_timeout: Duration::from_millis(50),
                new_run_id: || RunId(Uuid::now_v7()),
            },
        });
        (engine, lease)
    }

    async fn start(&self, yaml: &str) -> (RunId, Arc<Plan>) {
        let document = Document::parse(yaml, Format::Yaml).unwrap();
        let plan = Arc::new(compile(&document, self.plans.catalog()).unwrap());
        let definition =
            Definition { name: plan.name.clone(), hash: plan.hash.clone(), spec: document.spec.to_string() };
        let version = self.store.put_inline(TenantId::DEFAULT, definition).await.unwrap();
        self.plans.keep(version, plan.clone());
        let run_id = RunId(Uuid::now_v7());
        let now = self.store.now().await.unwrap();
        let (event, state) =
            windlass_model::decide::create(&plan, run_id, RunCreated::default(), Actor::user("ada"), now);
        self.store.create_run(NewRun::new(TenantId::DEFAULT, version, &state, event)).await.unwrap();
        (run_id, plan)
    }

    async fn status(&self, run_id: RunId) -> RunStatus {
        self.store.get_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap().status
    }

    /// The one child of a run, once it is there.
    async fn child_of(&self, run_id: RunId) -> RunId {
        for _ in 0..500 {
            let record = self.store.load_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
            let started = record.events.iter().find_map(|event| match &event.body {
                EventBody::ChildStarted(body) => Some(body.run_id),
                _ => None,
            });
            if let Some(child) = started {
                return child;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("no child was started");
    }

    async fn names(&self, run_id: RunId) -> Vec<&'static str> {
        let record = self.store.load_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
        record.events.iter().map(|event| event.body.name()).collect()
    }

    /// What the door does.
    async fn command(&self, run_id: RunId, plan: &Plan, command: Command) {
        let record = self.store.load_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
        let held = record.row.lease_owner.is_some();
        let mut state = RunState::fold(plan, run_id, record.snapshot, &record.events).unwrap();
        let now = self.store.now().await.unwrap();
        let input = Input::Command { command, actor: Actor::user("ada") };
        let events = decide(plan, &mut state, input, now).unwrap();
        let write =
            RunWrite::new(TenantId::DEFAULT, Guard::Door, record.row.version, plan, &state, events, held);
        self.store.write_run(write).await.unwrap();
    }

    async fn until_deeds(&self, count: usize) {
        for _ in 0..500 {
            if self.deeds.done.lock().unwrap().len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("only {:?} was done", self.deeds.done.lock().unwrap());
    }
}

const TWO_STEPS: &str =
    "{version: 1, name: two, type: steps, steps: [{id: a, type: noop}, {id: b, type: noop}]}";
const LIMITED: &str = "{version: 1, name: limited, type: steps, tools: {t: {rate_limit: {calls: 5, per: 1s}, do: {type: noop}}}, steps: [{id: a, type: tool, tool: t}]}";
const DEED_BESIDE_A_CHILD: &str = "{version: 1, name: beside, type: dag, nodes: {a: {type: work}, m: {type: map, each: [1], do: [{id: x, type: quick}]}}}";
const GATE_IN_A_CHILD: &str = "{version: 1, name: gate, type: steps, steps: [{id: m, type: map, each: [1], do: [{id: x, type: approval}]}]}";
const ONE_DEED: &str = "{version: 1, name: one, type: steps, steps: [{id: a, type: work}]}";

#[tokio::test]
async fn a_run_is_driven_to_its_end_and_let_go() {
    let house = House::new();
    let engine = house.engine().await;
    let (run_id, _) = house.start(TWO_STEPS).await;
    engine.drive(ring(run_id)).await;
    let row = house.store.get_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
    assert_eq!((row.status, row.lease_owner), (RunStatus::Completed, None));
    assert_eq!(row.version.0, 5, "created, claimed, and one commit for the first start and for each step");
    assert_eq!(house.deeds.done.lock().unwrap().len(), 2);
    engine.drive(ring(run_id)).await;
    assert_eq!(house.names(run_id).await.len(), 7, "there is nothing to take a second time");
}

/// Five hundred steps at a time, the quickest of the last four against the quickest of the first four: caches are shared
/// with others. Looking at what was done before would make it ten times as much.
#[tokio::test]
async fn a_step_costs_the_same_at_the_end_of_five_thousand_as_at_the_beginning() {
    let house = House::new();
    let engine = house.engine().await;
    let steps: Vec<String> = (0..5_000).map(|n| format!("{{id: s{n}, type: noop}}")).collect();
    let yaml = format!("{{version: 1, name: long, type: steps, steps: [{}]}}", steps.join(", "));
    let (run_id, _) = house.start(&yaml).await;
    engine.drive(ring(run_id)).await;
    assert_eq!(house.status(run_id).await, RunStatus::Completed);
    let cpu_ns = house.deeds.cpu_ns.lock().unwrap().clone();
    let parts: Vec<u64> = cpu_ns.chunks(500).map(|part| part[499] - part[0]).collect();
    let (early, late) = (parts[..4].iter().min().unwrap(), parts[6..].iter().min().unwrap());
    assert!(*late < early * 2, "{parts:?}");
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_read_back_and_never_written_twice() {
    for applied in [true, false] {
        let house = House::new();
        let engine = house.engine().await;
        house.deeds.holds.store(1, Ordering::SeqCst);
        let (run_id, _) = house.start(TWO_STEPS).await;
        let driving = tokio::spawn({
            let engine = engine.clone();
            async move { engine.drive(ring(run_id)).await }
        });
        house.until_deeds(1).await;
        house.store.faults().commit_unknown(applied);
        house.deeds.holds.store(0, Ordering::SeqCst);
        house.deeds.go_on.notify_waiters();
        tokio::time::timeout(Duration::from_secs(10), driving).await.unwrap().unwrap();
        assert_eq!(house.status(run_id).await, RunStatus::Completed, "applied: {applied}");
        assert_eq!(house.names(run_id).await.len(), 7, "applied: {applied}");
        assert_eq!(house.deeds.done.lock().unwrap().len(), 2, "applied: {applied}");
    }
}

#[tokio::test]
async fn a_cancel_from_the_door_stops_what_is_in_flight() {
    let house = House::new();
    let engine = house.engine().await;
    house.deeds.holds.store(1, Ordering::SeqCst);
    let (run_id, plan) = house.start(ONE_DEED).await;
    let driving = tokio::spawn({
        let engine = engine.clone();
        async move { engine.drive(ring(run_id)).await }
    });
    house.until_deeds(1).await;
    house.command(run_id, &plan, Command::Cancel { reason: None }).await;
    engine.poke(ring(run_id));
    tokio::time::timeout(Duration::from_secs(10), driving).await.unwrap().unwrap();
    assert_eq!(house.status(run_id).await, RunStatus::Canceled);
}

#[tokio::test]
async fn a_command_that_was_never_poked_about_is_found_by_the_next_commit() {
    let house = House::new();
    let engine = house.engine().await;
    house.deeds.holds.store(1, Ordering::SeqCst);
    let (run_id, plan) = house.start(TWO_STEPS).await;
    let driving = tokio::spawn({
        let engine = engine.clone();
        async move { engine.drive(ring(run_id)).await }
    });
    house.until_deeds(1).await;
    house.command(run_id, &plan, Command::Pause).await;
    house.deeds.holds.store(0, Ordering::SeqCst);
    house.deeds.go_on.notify_waiters();
    tokio::time::timeout(Duration::from_secs(10), driving).await.unwrap().unwrap();
    assert_eq!(house.status(run_id).await, RunStatus::Paused);
    assert_eq!(house.deeds.done.lock().unwrap().len(), 1, "the second step waits for the resume");
}

#[tokio::test]
async fn another_engine_takes_over_and_the_first_ones_result_is_dropped() {
    let house = House::new();
    let first = house.engine().await;
    house.deeds.holds.store(1, Ordering::SeqCst);
    let (run_id, _) = house.start(TWO_STEPS).await;
    let zombie = tokio::spawn({
        let engine = first.clone();
        async move { engine.drive(ring(run_id)).await }
    });
    house.until_deeds(1).await;
    // The first session expires by the database's clock while its process sleeps.
    house.store.close_session(session_of(&house, run_id).await).await.unwrap();
    house.deeds.holds.store(0, Ordering::SeqCst);
    let second = house.engine().await;
    second.drive(ring(run_id)).await;
    assert_eq!(house.status(run_id).await, RunStatus::Completed);
    let finished = house.names(run_id).await;
    house.deeds.go_on.notify_waiters();
    tokio::time::timeout(Duration::from_secs(10), zombie).await.unwrap().unwrap();
    assert_eq!(house.names(run_id).await, finished, "the zombie wrote nothing");
    let keys = house.deeds.done.lock().unwrap().clone();
    assert_eq!(keys[0], keys[1], "the repeated attempt sends the same key");
}

#[tokio::test]
async fn a_turn_that_comes_after_the_lease_was_lost_begins_nothing() {
    let house = House::new();
    let (first, lease) = house.engine_with_lease(Duration::from_millis(400)).await;
    let (run_id, _) = house.start(LIMITED).await;
    house.store.faults().fail_turns(u32::MAX);
    let zombie = tokio::spawn({
        let engine = first.clone();
        async move { engine.drive(ring(run_id)).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(house.names(run_id).await.last(), Some(&"step.started"));
    house.store.close_session(session_of(&house, run_id).await).await.unwrap();
    house.engine().await.drive(ring(run_id)).await;
    assert_eq!(
        house.status(run_id).await,
        RunStatus::Paused,
        "a person decides about a deed of unknown outcome"
    );
    // The database answers the first one again, and only then its session is renewed.
    house.store.faults().fail_turns(0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    lease.renewed(tokio::time::Instant::now(), Duration::from_secs(3600));
    tokio::time::timeout(Duration::from_secs(10), zombie).await.unwrap().unwrap();
    assert_eq!(house.deeds.done.lock().unwrap().len(), 0, "what was judged lost is not begun");
}

/// More calls than any of the stories below makes.
const CALLS: u32 = 12;

#[tokio::test]
async fn one_question_without_an_answer_tears_nothing_off() {
    for calls_before in 0..CALLS {
        let house = House::new();
        let engine = house.engine().await;
        house.deeds.holds.store(1, Ordering::SeqCst);
        let (run_id, _) = house.start(DEED_BESIDE_A_CHILD).await;
        let driving = tokio::spawn({
            let engine = engine.clone();
            async move { engine.drive(ring(run_id)).await }
        });
        house.until_deeds(1).await;
        let child = house.child_of(run_id).await;
        engine.drive(ring(child)).await;
        house.store.faults().fail_after(calls_before);
        engine.poke(ring(run_id));
        tokio::time::sleep(Duration::from_millis(250)).await;
        house.deeds.holds.store(0, Ordering::SeqCst);
        house.deeds.go_on.notify_waiters();
        tokio::time::timeout(Duration::from_secs(10), driving).await.unwrap().unwrap();
        house.store.faults().fail_next(0);
        let names = house.names(run_id).await;
        assert_eq!(names.last(), Some(&"run.completed"), "after {calls_before} calls: {names:?}");
        assert!(!names.contains(&"step.lost"));
    }
}

#[tokio::test]
async fn a_child_is_asked_to_stop_whichever_question_gets_no_answer() {
    for calls_before in 0..CALLS {
        let house = House::new();
        let engine = house.engine().await;
        let (run_id, plan) = house.start(GATE_IN_A_CHILD).await;
        engine.drive(ring(run_id)).await;
        let child = house.child_of(run_id).await;
        engine.drive(ring(child)).await;
        assert_eq!(house.status(child).await, RunStatus::Waiting);
        house.command(run_id, &plan, Command::Cancel { reason: None }).await;
        // Another process, which has read no definition yet.
        let plans = Plans::new(house.store.clone() as Arc<dyn Store>, Arc::new(house.runners.catalog()));
        let house = House { plans: Arc::new(plans), ..house };
        let engine = house.engine().await;
        house.store.faults().fail_after(calls_before);
        for _ in 0..2 {
            engine.drive(ring(run_id)).await;
        }
        house.store.faults().fail_next(0);
        let names = house.names(child).await;
        assert!(names.contains(&"run.cancel_requested"), "after {calls_before} calls: {names:?}");
    }
}

fn ring(run_id: RunId) -> Ring {
    Ring { run_id, tenant: TenantId::DEFAULT, priority: Priority::Normal }
}

async fn session_of(house: &House, run_id: RunId) -> SessionId {
    let row = house.store.get_run(TenantId::DEFAULT, run_id).await.unwrap().unwrap();
    row.lease_owner.unwrap()
}

#[tokio::test]
async fn a_drain_gives_up_what_does_not_end_in_time_and_releases_the_run() {
    let house = House::new();
    let engine = house.engine().await;
    house.deeds.holds.store(1, Ordering::SeqCst);
    let (safe, _) = house.start(TWO_STEPS).await;
    let (once, _) = house.start(ONE_DEED).await;
    let driving: Vec<_> = [safe, once]
        .into_iter()
        .map(|run_id| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.drive(ring(run_id)).await })
        })
        .collect();
    house.until_deeds(2).await;
    engine.drain();
    for task in driving {
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }
    let row = house.store.get_run(TenantId::DEFAULT, safe).await.unwrap().unwrap();
    assert_eq!((row.status, row.lease_owner), (RunStatus::Queued, None));
    assert_eq!(
        house.status(once).await,
        RunStatus::Paused,
        "a person decides about a deed of unknown outcome"
    );
    assert_eq!(engine.held_count(), 0);
}

#[tokio::test]
async fn a_watcher_sees_every_committed_event() {
    let house = House::new();
    let engine = house.engine().await;
    let (run_id, _) = house.start(TWO_STEPS).await;
    let mut watcher = house.bus.subscribe(run_id).await;
    engine.drive(ring(run_id)).await;
    let mut seen = Vec::new();
    while let Ok(windlass_bus::News::Event(event)) = watcher.try_recv() {
        seen.push(event.seq.0);
    }
    assert_eq!(seen, [2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_run_whose_writes_are_refused_for_good_is_left_alone_and_set_aside() {
    let house = House::new();
    let (run_id, _) = house.start(TWO_STEPS).await;
    house.store.faults().refuse_appends(u32::MAX);
    for _ in 0..3 {
        let engine = house.engine().await;
        let driven = tokio::time::timeout(Duration::from_secs(10), engine.drive(ring(run_id))).await;
        driven.expect("what is refused is not asked for ever");
        house.store.clock().advance(Duration::from_secs(61));
    }
    house.store.faults().refuse_appends(0);
    house.engine().await.drive(ring(run_id)).await;
    assert_eq!(house.status(run_id).await, RunStatus::Paused);
    assert_eq!(house.names(run_id).await.last(), Some(&"run.quarantined"));
    assert_eq!(house.deeds.done.lock().unwrap().len(), 0);
}
