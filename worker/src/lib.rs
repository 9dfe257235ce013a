//! The hands: takes doorbells, holds runs, does their nodes, keeps house.

pub mod agents;
mod doorbell;
pub mod nodes;
mod relay;
mod schedules;
mod session;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;
use windlass_boot::Health;
use windlass_bus::{Bus, Pokes};
use windlass_engine::{Clock, Engine, EngineOptions, EngineParts, Lease, Runners, Secrets};
use windlass_model::{RunId, SessionId};
use windlass_store::{Plans, Quota, Store, StoreError};

use crate::doorbell::Room;

pub use relay::{HttpSink, Sink};

/// How often the relay looks into the outbox, and how often where it has nobody to tell and only tidies up.
const RELAY_EVERY: Duration = Duration::from_millis(500);
const RELAY_EVERY_WITHOUT_SINK: Duration = Duration::from_secs(5);
/// A worker promises a run of its own this often, when there are runs to take.
const PROGRESS_WITHIN: Duration = Duration::from_secs(5);
/// Near timers are rung for when they are due, schedules are seen to when the sweep has found some; without any their
/// loops turn this often, to show that they do.
const IDLE_TURNS_EVERY: Duration = Duration::from_secs(5);
/// What a drain may take beyond its timeout, to write what it ended with.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// How a worker behaves. The defaults are those of the documented settings.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    pub session_ttl: Duration,
    pub session_renew: Duration,
    pub sweep_interval: Duration,
    pub stale_after: Duration,
    /// Runs held at the same time.
    pub max_runs: usize,
    /// How long a stop waits for attempts in flight.
    pub drain_timeout: Duration,
    /// How many runs may stand above one that a step starts.
    pub child_depth_max: u32,
    /// Runs of one tenant that may be open before a schedule starts no further one. None: as many as there are.
    pub open_runs_max: Option<u32>,
    /// Makes the id of a run that a step or a schedule starts.
    pub new_run_id: fn() -> RunId,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            session_ttl: Duration::from_secs(5),
            session_renew: Duration::from_secs(1),
            sweep_interval: Duration::from_secs(1),
            stale_after: Duration::from_secs(60),
            max_runs: 320,
            drain_timeout: Duration::from_secs(30),
            child_depth_max: 8,
            open_runs_max: None,
            new_run_id: || RunId(Uuid::now_v7()),
        }
    }
}

/// What a worker works with.
pub struct WorkerParts {
    /// This start of this process, and no other.
    pub session: SessionId,
    pub store: Arc<dyn Store>,
    pub plans: Arc<Plans>,
    pub bus: Arc<dyn Bus>,
    pub runners: Runners,
    pub secrets: Secrets,
    /// Where emitted events go. None: they are seen on the run's own stream only.
    pub sink: Option<Arc<dyn Sink>>,
    pub health: Health,
}

/// Works until `shutdown`, then drains: what is in flight ends or is given up, and every run is released.
///
/// # Errors
/// When the database refuses the first session. Nothing but `shutdown` ends it otherwise.
pub async fn run(
    parts: WorkerParts,
    options: WorkerOptions,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let WorkerParts { session, store, plans, bus, runners, secrets, sink, health } = parts;
    let Some(begun) = shutdown.run_until_cancelled(begin_session(&*store, session, &options)).await else {
        return Ok(());
    };
    let (lease, clock) = begun?;
    let engine = Engine::new(EngineParts {
        store: store.clone(),
        plans: plans.clone(),
        bus: bus.clone(),
        runners,
        secrets,
        lease: lease.clone(),
        clock: clock.clone(),
        options: EngineOptions {
            stale_after: options.stale_after,
            near_timer_horizon: options.sweep_interval * 2,
            child_depth_max: options.child_depth_max,
            drain_timeout: options.drain_timeout,
            new_run_id: options.new_run_id,
        },
    });

    // Two circles: what brings new work ends with `shutdown`, what keeps held runs safe ends after the drain.
    let drained = CancellationToken::new();
    let tasks = TaskTracker::new();
    let pokes = bus.pokes(lease.session());
    let session =
        session::Session { store: store.clone(), lease: lease.clone(), clock, ttl: options.session_ttl };
    // All loops count their turns from one moment: so those that come together wake a process with nothing to do once.
    let began = Instant::now();
    let turns = |every| {
        let mut turns = tokio::time::interval_at(began, every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        turns
    };
    let session_beat = health.register("session", options.session_renew);
    tasks.spawn(session.run(turns(options.session_renew), session_beat, drained.clone()));
    tasks.spawn(pass_on(pokes, engine.clone(), drained.clone()));
    let (every, beats_within) = match sink {
        Some(_) => (RELAY_EVERY, relay::DELIVERY_TIMEOUT),
        None => (RELAY_EVERY_WITHOUT_SINK, RELAY_EVERY_WITHOUT_SINK),
    };
    let relay = relay::Relay { store: store.clone(), sink, is_refused: Default::default() };
    tasks.spawn(relay.run(turns(every), health.register("relay", beats_within), drained.clone()));

    let room = Room::for_runs(options.max_runs);
    let (to_worker, from_doorbell) = mpsc::channel(options.max_runs);
    tasks.spawn(doorbell::carry(bus.rings(), room.clone(), to_worker, shutdown.clone()));
    let schedules_are_due = Arc::new(Notify::new());
    let sweep = sweep::Sweep {
        store: store.clone(),
        session: lease.session(),
        room,
        schedules_are_due: schedules_are_due.clone(),
        every: options.sweep_interval,
        stale_after: options.stale_after,
        session_ttl: options.session_ttl,
    };
    let beats = sweep::Beats {
        sweep: health.register("sweep", options.sweep_interval.max(Duration::from_secs(1))),
        progress: health.register("progress", options.sweep_interval.max(PROGRESS_WITHIN)),
    };
    tasks.spawn(sweep.run(turns(options.sweep_interval), engine.clone(), beats, drained.clone()));
    let schedules = schedules::Schedules {
        store: store.clone(),
        plans,
        bus: bus.clone(),
        quota: Quota::new(store.clone(), options.open_runs_max),
        new_run_id: options.new_run_id,
    };
    let schedules_beat = health.register("schedules", IDLE_TURNS_EVERY);
    tasks.spawn(schedules.run(schedules_are_due, turns(IDLE_TURNS_EVERY), schedules_beat, shutdown.clone()));
    let (timers, timers_stop) = (engine.clone(), shutdown.clone());
    let (timers_turns, timers_beat) = (turns(IDLE_TURNS_EVERY), health.register("timers", IDLE_TURNS_EVERY));
    tasks.spawn(async move { timers.run_timers(timers_turns, || timers_beat.beat(), &timers_stop).await });
    let answering = tokio::spawn(doorbell::answer(
        from_doorbell,
        engine.clone(),
        options.max_runs,
        bus,
        shutdown.clone(),
    ));

    shutdown.cancelled().await;
    info!(held = engine.held_count(), "Draining");
    engine.drain();
    if tokio::time::timeout(options.drain_timeout + DRAIN_MARGIN, answering).await.is_err() {
        warn!(held = engine.held_count(), "The drain took too long; the runs left will be taken over");
    }
    drained.cancel();
    tasks.close();
    tasks.wait().await;
    if let Err(error) = store.close_session(lease.session()).await {
        warn!(error = %error, "The session could not be closed; it will expire");
    }
    info!("Worker stopped");
    Ok(())
}

/// Begins this worker's session, and sets its clock by the database's. Waits for a database that is away, as
/// everything does that comes after.
async fn begin_session(
    store: &dyn Store,
    session: SessionId,
    options: &WorkerOptions,
) -> anyhow::Result<(Arc<Lease>, Arc<Clock>)> {
    let lease = Arc::new(Lease::new(session));
    loop {
        let asked_at = Instant::now();
        match store.renew_session(lease.session(), options.session_ttl).await {
            Ok(now) => {
                lease.renewed(asked_at, options.session_ttl);
                info!(session = %lease.session(), max_runs = options.max_runs, "Worker started");
                return Ok((lease, Arc::new(Clock::new(now))));
            }
            Err(error @ StoreError::Unavailable(_)) => warn!(error = %error, "The session cannot begin yet"),
            Err(error) => return Err(error).context("cannot register this worker's session"),
        }
        tokio::time::sleep(options.session_renew).await;
    }
}

/// Brings pokes to the engine.
async fn pass_on(mut pokes: Pokes, engine: Arc<Engine>, stop: CancellationToken) {
    while let Some(Some(ring)) = stop.run_until_cancelled(pokes.recv()).await {
        engine.poke(ring);
    }
}
