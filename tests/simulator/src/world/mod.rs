//! The world of one schedule: a database, a wire, an outside, processes, and what is known about all of them.
//!
//! The model, the engine, the workers with their loops and the API with its routes are the real ones. What is not
//! real is time, which passes when nothing else can happen, and everything between processes.

pub(crate) mod api;
mod circuits;
mod clocks;
pub(crate) mod outside;
pub(crate) mod process;
mod quota;
pub(crate) mod store;
pub(crate) mod trace;
mod turns;
pub(crate) mod wire;
pub(crate) mod worker;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::FutureExt;
use scenarios::Chance;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use uuid::Uuid;
use windlass_bus::InProcessBus;
use windlass_model::circuit::{Admission, CircuitKey, CircuitStep};
use windlass_model::event::{EventBody, OriginReason};
use windlass_model::rate_limit::{LimitKey, RateLimit, Turn};
use windlass_model::{Ring, RunId, SessionId, TenantId, Timestamp, VersionId};
use windlass_store::memory::MemoryStore;
use windlass_store::{Clock, Fence, Guard, NewRun, Pin, RunRow, Runs, Workflows, WriteError};

use crate::reach::Reach;
use crate::schedule::{Noise, Schedule};
use crate::whose::Whose;
use outside::Outside;
use process::Process;
use store::Fate;
use trace::Trace;

/// When every schedule begins: two seconds before the year 2027 does, which is a time of all that start runs by the clock.
const BEGINNING: Timestamp = Timestamp(1_798_761_598_000_000);

pub(crate) struct World {
    pub(crate) database: Arc<MemoryStore>,
    pub(crate) wire: Arc<InProcessBus>,
    pub(crate) outside: Outside,
    pub(crate) reach: Reach,
    pub(crate) trace: Trace,
    began: Instant,
    chance: Mutex<Chance>,
    ids: Mutex<Chance>,
    weather: Mutex<Weather>,
    ledger: Mutex<Ledger>,
    ticks: AtomicU64,
    /// Something was complained of.
    pub(crate) complaint: Notify,
    /// How many runs of a tenant may be open.
    pub(crate) open_runs_max: Option<u32>,
}

/// A run that is about to be, as far as the world keeps it in mind.
struct Created {
    id: RunId,
    tenant: TenantId,
    version: VersionId,
    pin: Pin,
    /// The run whose place it takes.
    takes: Option<RunId>,
    /// What a run starts, and what takes the place of another, needs none of its own under the quota.
    needs_place: bool,
}

impl From<&NewRun> for Created {
    fn from(new: &NewRun) -> Self {
        let (origin, parent) = match &new.event.body {
            EventBody::RunCreated(body) => (body.origin.as_deref(), body.parent.as_ref()),
            _ => (None, None),
        };
        let takes = origin.filter(|origin| origin.because == OriginReason::Move).map(|origin| origin.run_id);
        let needs_place = parent.is_none() && takes.is_none();
        Self { id: new.id, tenant: new.tenant, version: new.version_id, pin: new.pin, takes, needs_place }
    }
}

/// What goes wrong at the moment.
#[derive(Default)]
struct Weather {
    noise: Noise,
    database_away_until: Option<Instant>,
    wire_down_until: Option<Instant>,
    /// The answers of the next writes get lost; whether each was applied.
    lost_answers: Vec<bool>,
    /// How far the database's clock has jumped ahead.
    jumped: Duration,
}

/// What really happened to leases, seen from where the database stands.
#[derive(Default)]
struct Ledger {
    sessions: BTreeMap<SessionId, Timestamp>,
    holders: BTreeMap<RunId, Fence>,
    pokes: BTreeMap<SessionId, mpsc::Sender<Ring>>,
    violations: Vec<String>,
    /// Runs that a draining worker had in its hands.
    drained: Vec<RunId>,
    circuits: circuits::Circuits,
    fired: clocks::Fired,
    turns: turns::Turns,
    open_runs: quota::OpenRuns,
    /// The definition that each run began with.
    pinned: BTreeMap<RunId, VersionId>,
    /// When the first step of each run was begun.
    begun: BTreeMap<RunId, Timestamp>,
}

impl World {
    pub(crate) fn new(schedule: &Schedule, keeps_lines: bool) -> Arc<Self> {
        let Schedule { seed, noise, open_runs_max, .. } = *schedule;
        let mut chance = Chance::of(seed);
        let ids = chance.branch();
        let world = Arc::new(Self {
            database: MemoryStore::with_clock(Arc::new(Clock::fixed(BEGINNING))),
            wire: InProcessBus::new(),
            outside: Outside::default(),
            reach: Reach::default(),
            trace: Trace::new(keeps_lines),
            began: Instant::now(),
            chance: Mutex::new(chance),
            ids: Mutex::new(ids),
            weather: Mutex::new(Weather { noise, ..Weather::default() }),
            ledger: Mutex::default(),
            ticks: AtomicU64::new(0),
            complaint: Notify::new(),
            open_runs_max,
        });
        HERE.with_borrow_mut(|here| *here = Arc::downgrade(&world));
        world
    }

    // ---- time and chance -----------------------------------------------------------------------

    /// How long the schedule has been running.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn note(&self, line: Arguments<'_>) {
        self.trace.note(self.elapsed(), line);
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.chance.lock().expect("one thread"))
    }

    /// Brings the database's clock to where time stands.
    pub(crate) fn keep_time(&self) {
        let jumped = self.weather.lock().expect("one thread").jumped;
        let now = BEGINNING.plus(self.elapsed() + jumped);
        let clock = self.database.clock();
        clock.advance(clock.now().until(now));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.keep_time();
        self.database.clock().now()
    }

    pub(crate) fn now_for_people(&self) -> jiff::Timestamp {
        self.now().to_string().parse().expect("it is a time")
    }

    /// How long a message travels. Most of the time that is so short that only the order of things depends on it.
    pub(crate) fn latency(&self) -> Duration {
        let slow = self.noise().slow;
        self.draw(|chance| match chance.below(1_000) {
            dice if dice < u64::from(slow) => {
                chance.between(Duration::from_millis(20), Duration::from_millis(1_500))
            }
            dice if dice < 500 => Duration::ZERO,
            _ => Duration::from_millis(1 + chance.below(3)),
        })
    }

    pub(crate) fn new_session(&self) -> SessionId {
        SessionId(self.new_id())
    }

    /// A UUIDv7 of this world's time.
    fn new_id(&self) -> Uuid {
        let millis = u64::try_from(self.now().0 / 1_000).unwrap_or_default();
        let mut ids = self.ids.lock().expect("one thread");
        let mut random = [0; 10];
        random[..8].copy_from_slice(&ids.draw().to_le_bytes());
        random[8..].copy_from_slice(&ids.draw().to_le_bytes()[..2]);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    // ---- the weather ---------------------------------------------------------------------------

    pub(crate) fn noise(&self) -> Noise {
        self.weather.lock().expect("one thread").noise
    }

    pub(crate) fn take_database_away(&self, span: Duration) {
        self.weather.lock().expect("one thread").database_away_until = Some(Instant::now() + span);
    }

    pub(crate) fn take_wire_down(&self, span: Duration) {
        self.weather.lock().expect("one thread").wire_down_until = Some(Instant::now() + span);
    }

    pub(crate) fn lose_next_answer(&self, applied: bool) {
        self.weather.lock().expect("one thread").lost_answers.push(applied);
    }

    pub(crate) fn jump(&self, span: Duration) {
        self.weather.lock().expect("one thread").jumped += span;
        self.reach.hit("clock_jumped");
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        let mut weather = self.weather.lock().expect("one thread");
        *weather = Weather { jumped: weather.jumped, ..Weather::default() };
    }

    pub(crate) fn is_wire_down(&self) -> bool {
        self.weather.lock().expect("one thread").wire_down_until.is_some_and(|until| Instant::now() < until)
    }

    fn is_away(&self, process: &Process) -> bool {
        let away = self.weather.lock().expect("one thread").database_away_until;
        process.is_cut_off() || away.is_some_and(|until| Instant::now() < until)
    }

    fn fate_of_read(&self, process: &Process) -> Fate {
        let fails = self.noise().fails;
        let away = self.is_away(process) || self.draw(|chance| chance.below(1_000) < u64::from(fails));
        if away { Fate::Away } else { Fate::Works }
    }

    fn fate_of_write(&self, process: &Process) -> Fate {
        if self.fate_of_read(process) == Fate::Away {
            return Fate::Away;
        }
        let planned = self.weather.lock().expect("one thread").lost_answers.pop();
        let loses = self.noise().loses_answers;
        let by_chance =
            self.draw(|chance| (chance.below(1_000) < u64::from(loses)).then(|| chance.one_in(2)));
        match planned.or(by_chance) {
            None => Fate::Works,
            Some(true) => Fate::LostAfterCommit,
            Some(false) => Fate::LostBeforeCommit,
        }
    }

    // ---- what really happened ------------------------------------------------------------------

    pub(crate) fn complain(&self, complaint: String) {
        self.note(format_args!("VIOLATION {complaint}"));
        self.ledger.lock().expect("one thread").violations.push(complaint);
        self.complaint.notify_one();
    }

    fn complain_of(&self, complaint: Option<String>) {
        if let Some(complaint) = complaint {
            self.complain(complaint);
        }
    }

    pub(crate) fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut self.ledger.lock().expect("one thread").violations)
    }

    /// Decisions that were brought to the database so far, by engines and by the door.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    pub(crate) fn row(&self, run_id: RunId) -> Option<RunRow> {
        Whose::ALL.iter().find_map(|whose| {
            let row = self.database.get_run(whose.tenant(), run_id).now_or_never();
            row.expect("a database in memory answers at once").expect("it is never away")
        })
    }

    /// Whether a child of this run has ended, and the run has not taken that in.
    pub(crate) fn has_news_of_children(&self, run_id: RunId) -> bool {
        Whose::ALL.iter().any(|whose| {
            let ended = self.database.find_ended_children(whose.tenant(), run_id, 1).now_or_never();
            // A log that makes no sense has no news; it is complained of where it is read.
            ended.expect("a database in memory answers at once").is_ok_and(|ended| !ended.is_empty())
        })
    }

    /// A run has ended whose parent is, as far as its row says, in the hands of somebody who is dead.
    fn child_ended(&self, parent: RunId) {
        let owner = self.row(parent).and_then(|row| row.lease_owner);
        let now = self.now();
        let sessions = &self.ledger.lock().expect("one thread").sessions;
        if owner.is_some_and(|owner| sessions.get(&owner).is_none_or(|until| *until <= now)) {
            self.reach.hit("child_ended_while_its_parents_engine_was_dead");
        }
    }

    /// I31: a call is made unless the circuit is open, and of those that wait for it to heal one at a time.
    fn asked_circuit(&self, key: &CircuitKey, answer: Admission) {
        let now = self.now();
        let complaint = self.ledger.lock().expect("one thread").circuits.asked(key, answer, now, &self.reach);
        self.complain_of(complaint);
    }

    fn told_circuit(&self, key: CircuitKey, step: &CircuitStep, answer: Admission) {
        if matches!(step, CircuitStep::Ask { .. }) {
            self.asked_circuit(&key, answer);
        }
        let now = self.now();
        self.ledger.lock().expect("one thread").circuits.told(key, step, answer, now, &self.reach);
    }

    /// I33: what a limit gives away, it gives evenly, and as soon as it may.
    fn took_turn(&self, key: &LimitKey, limit: RateLimit, answer: Turn) {
        let now = self.now();
        let complaint =
            self.ledger.lock().expect("one thread").turns.given(key, limit, answer, now, &self.reach);
        self.complain_of(complaint);
    }

    pub(crate) fn turns_of(&self, key: &LimitKey) -> Vec<Timestamp> {
        self.ledger.lock().expect("one thread").turns.of(key)
    }

    /// I34: who takes the place of a run does so in the very moment in which that ends.
    fn took_place(&self, new: &Created) {
        if let Some(of) = new.takes
            && self.row(of).is_none_or(|row| !row.status.is_terminal())
        {
            self.complain(format!("I34: {} takes the place of {of}, which goes on", new.id));
        }
    }

    /// I26: who wants the latest version gets the one that is the latest when the run begins.
    fn created(&self, new: &Created, by: &Process) {
        self.ledger.lock().expect("one thread").pinned.insert(new.id, new.version);
        self.took_place(new);
        self.was_let_in(new, by);
        if new.pin != Pin::Latest {
            return;
        }
        let Some(row) = self.row(new.id) else { return };
        let latest = self.database.get_version(row.tenant, &row.workflow, None).now_or_never();
        let latest = latest.expect("at once").expect("never away").map(|version| version.id);
        if latest != Some(new.version) {
            self.complain(format!(
                "I26: {} began under {:?}, the latest was {latest:?}",
                new.id, new.version
            ));
        }
    }

    pub(crate) fn pinned(&self, run_id: RunId) -> Option<VersionId> {
        self.ledger.lock().expect("one thread").pinned.get(&run_id).copied()
    }

    fn began(&self, run_id: RunId) {
        let now = self.now();
        self.ledger.lock().expect("one thread").begun.entry(run_id).or_insert(now);
    }

    /// When the first step of a run was begun, as the database has it.
    pub(crate) fn began_at(&self, run_id: RunId) -> Option<Timestamp> {
        self.ledger.lock().expect("one thread").begun.get(&run_id).copied()
    }

    fn renewed(&self, session: SessionId, expires_at: Timestamp) {
        self.ledger.lock().expect("one thread").sessions.insert(session, expires_at);
    }

    fn closed(&self, session: SessionId) {
        self.ledger.lock().expect("one thread").sessions.remove(&session);
    }

    fn wrote(&self, run_id: RunId, guard: Guard, lets_go: bool, done: &Result<(), WriteError>) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        let mut complaint = None;
        match (guard, done) {
            (Guard::Engine(fence), Ok(())) => {
                let mut ledger = self.ledger.lock().expect("one thread");
                let holder = ledger.holders.get(&run_id).copied();
                if holder != Some(fence) {
                    complaint =
                        Some(format!("I3: {run_id} was written by {fence:?} although {holder:?} holds it"));
                }
                if lets_go {
                    ledger.holders.remove(&run_id);
                }
            }
            (Guard::Engine(_), Err(WriteError::Fenced)) => self.reach.hit("fence_lost"),
            (Guard::Engine(_), Err(WriteError::Moved)) => self.reach.hit("engine_overtaken_by_the_door"),
            (Guard::Door, Err(WriteError::Moved)) => self.reach.hit("door_overtaken"),
            (Guard::Engine(_), Err(error)) => complaint = Some(format!("I2: {run_id}: {error:?}")),
            (Guard::Door, Err(WriteError::Store(error))) => {
                complaint = Some(format!("I2: {run_id}: {error:?}"));
            }
            (Guard::Door, Ok(()) | Err(_)) => {}
        }
        self.complain_of(complaint);
    }

    /// I12: nobody takes what somebody else holds.
    fn claimed(&self, before: Option<&RunRow>, after: &RunRow, stale_after: Duration) {
        let now = self.now();
        let Some(session) = after.lease_owner else {
            return self.complain(format!("I12: {} was claimed by nobody", after.id));
        };
        let fence = Fence { session, epoch: after.epoch };
        let mut ledger = self.ledger.lock().expect("one thread");
        let previous = ledger.holders.insert(after.id, fence);
        let silent = before.is_none_or(|row| row.last_activity_at.plus(stale_after) < now);
        let alive = |fence: &Fence| ledger.sessions.get(&fence.session).is_some_and(|until| *until > now);
        let verdict = match previous {
            None => None,
            Some(holder) if holder.epoch >= fence.epoch => {
                Some(format!("I12: {} was claimed by {fence:?} after {holder:?}", after.id))
            }
            Some(holder) if alive(&holder) && !silent => {
                Some(format!("I12: {} was taken from {holder:?}, who lives, by {fence:?}", after.id))
            }
            Some(holder) => {
                let how =
                    if alive(&holder) { "run_taken_from_the_silent" } else { "run_taken_from_the_dead" };
                self.reach.hit(how);
                if after.parent.is_some() && !alive(&holder) {
                    self.reach.hit("child_taken_from_the_dead");
                }
                None
            }
        };
        if ledger.drained.contains(&after.id) {
            ledger.drained.retain(|run| *run != after.id);
            self.reach.hit("run_handed_over_by_a_drain");
        }
        drop(ledger);
        self.complain_of(verdict);
    }

    /// These runs are in the hands of a worker that begins to drain.
    pub(crate) fn drains(&self, session: SessionId) {
        let mut ledger = self.ledger.lock().expect("one thread");
        let held: Vec<RunId> = ledger
            .holders
            .iter()
            .filter(|(_, fence)| fence.session == session)
            .map(|(run, _)| *run)
            .collect();
        ledger.drained.extend(held);
    }

    fn listens(&self, session: SessionId, pokes: mpsc::Sender<Ring>) {
        self.ledger.lock().expect("one thread").pokes.insert(session, pokes);
    }

    fn poke(&self, session: SessionId, ring: Ring) {
        let pokes = self.ledger.lock().expect("one thread").pokes.get(&session).cloned();
        // A full or closed channel is a lost poke.
        let _ = pokes.map(|pokes| pokes.try_send(ring));
    }
}

thread_local! {
    /// The world that this thread runs.
    static HERE: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
}

/// An id for a new run, from the world of this thread.
pub(crate) fn new_run_id() -> RunId {
    let world = HERE.with_borrow(Weak::upgrade).expect("runs begin inside a world");
    RunId(world.new_id())
}
