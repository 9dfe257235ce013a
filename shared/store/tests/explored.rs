//! Every order in which claims, commits, the sweep, the outbox, a cancel and one misfortune can come, for two runs and two workers.
//!
//! Not a sample: all of it, on the rules of the store in memory, which the conformance suite holds every other store to. From
//! each state everything that can come next is tried, and a state that was seen is not tried again.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use windlass_model::event::{
    CancelRequested, EventEmitted, RunCanceled, RunCompleted, RunCreated, StepLost, StepStarted,
    StepSucceeded,
};
use windlass_model::{
    Attempt, Epoch, Event, EventBody, EventSeq, NodeIndex, Payload, Priority, RunId, RunStatus, RunVersion,
    SessionId, TenantId, Timestamp, VersionId,
};
use windlass_store::memory::MemoryStore;
use windlass_store::{
    Clock, Definition, Fence, Guard, Labels, NewRun, Outbox, OutboxMessage, OutboxSettlement, Pin,
    Projection, RunRecord, RunWrite, Runs, Sessions, Workflows, WriteError,
};

const TENANT: TenantId = TenantId::DEFAULT;
const FOREVER: Duration = Duration::from_secs(1_000_000);
const RUNS: usize = 2;
const WORKERS: usize = 2;
/// More would mean that the model has grown beyond what can be tried in the time of a test.
const STATES_MAX: usize = 200_000;

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Claim {
        worker: usize,
        run: usize,
    },
    /// Whoever believes that it holds the run writes what follows from what it has read.
    Commit {
        worker: usize,
        run: usize,
    },
    /// A person cancels the first run.
    Cancel,
    /// It meets the first worker: the other one is like it. Its session ends; it dies, or stands still meanwhile, and what
    /// it has sent may still arrive.
    Misfortune {
        dies: bool,
    },
    /// Who stood still goes on, with a session again.
    Thaw,
    Deliver,
    Settle,
}

/// Bugs that have to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// Whoever was frozen writes like somebody who holds nothing.
    FenceIgnored,
    /// A write that met another one is done again without reading.
    NotReadAgain,
    /// What was emitted is not in the write that says so.
    OutboxForgotten,
    /// Whoever delivers says so before it has.
    SettledBeforeDelivered,
}

/// What one worker has read of one run.
#[derive(Clone, Debug)]
struct Hold {
    fence: Fence,
    version: RunVersion,
    log: Vec<Event>,
    /// It has begun the step itself, and knows how that went.
    has_done_it: bool,
}

#[derive(Clone)]
struct World {
    store: Arc<MemoryStore>,
    planted: Planted,
    holds: BTreeMap<(usize, usize), Hold>,
    is_up: [bool; WORKERS],
    is_frozen: [bool; WORKERS],
    has_been_unlucky: bool,
    has_canceled: bool,
    /// A message on its way, which nobody has settled.
    in_hand: Option<(i64, RunId)>,
    delivered: Vec<RunId>,
}

fn run_id(run: usize) -> RunId {
    RunId(uuid::Uuid::from_u128(run as u128 + 1))
}

fn session(worker: usize) -> SessionId {
    SessionId(uuid::Uuid::from_u128(worker as u128 + 101))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the store in memory answers at once")
}

fn projection(status: RunStatus) -> Projection {
    let ended_at = status.is_terminal().then_some(Timestamp(9));
    Projection {
        status,
        paused_reason: None,
        wake_at: None,
        started_at: Some(Timestamp(1)),
        ended_at,
        error: None,
    }
}

fn event(seq: u32, epoch: Option<Epoch>, attempt: Option<Attempt>, body: impl Into<EventBody>) -> Event {
    let node = attempt.map(|_| NodeIndex(0));
    Event {
        seq: EventSeq(seq),
        at: Timestamp(1),
        node,
        item: None,
        attempt,
        epoch,
        actor: None,
        body: body.into(),
    }
}

/// Where a log stands.
#[derive(Default)]
struct Standing {
    started: u16,
    ended: u16,
    has_succeeded: bool,
    is_canceled: bool,
}

impl Standing {
    fn of(log: &[Event]) -> Self {
        let mut it = Self::default();
        for event in log {
            match event.body {
                EventBody::StepStarted(_) => it.started += 1,
                EventBody::StepSucceeded(_) => (it.ended, it.has_succeeded) = (it.ended + 1, true),
                EventBody::StepLost(_) => it.ended += 1,
                EventBody::CancelRequested(_) => it.is_canceled = true,
                _ => {}
            }
        }
        it
    }
}

impl World {
    fn new(planted: Planted) -> Self {
        let store = MemoryStore::with_clock(Arc::new(Clock::fixed(Timestamp(1_000))));
        let definition =
            Definition { name: "it".into(), hash: windlass_model::Digest::of(b"it"), spec: "{}".into() };
        let version = now(store.put_inline(TENANT, definition)).expect("a definition");
        for run in 0..RUNS {
            now(store.create_run(new_run(run, version))).expect("a run");
        }
        for worker in 0..WORKERS {
            now(store.renew_session(session(worker), FOREVER)).expect("a session");
        }
        Self {
            store,
            planted,
            holds: BTreeMap::new(),
            is_up: [true; WORKERS],
            is_frozen: [false; WORKERS],
            has_been_unlucky: false,
            has_canceled: false,
            in_hand: None,
            delivered: Vec::new(),
        }
    }

    /// Another world that is like this one.
    fn fork(&self) -> Self {
        Self { store: self.store.fork(), ..self.clone() }
    }

    fn deeds(&self) -> Vec<Deed> {
        let mut deeds = vec![Deed::Deliver, Deed::Settle];
        for worker in (0..WORKERS).filter(|worker| self.is_up[*worker]) {
            for run in 0..RUNS {
                if self.holds.contains_key(&(worker, run)) {
                    deeds.push(Deed::Commit { worker, run });
                } else if !self.is_frozen[worker] {
                    deeds.push(Deed::Claim { worker, run });
                }
            }
        }
        if !self.has_been_unlucky {
            deeds.extend([true, false].map(|dies| Deed::Misfortune { dies }));
        }
        if self.is_frozen[0] {
            deeds.push(Deed::Thaw);
        }
        if !self.has_canceled {
            deeds.push(Deed::Cancel);
        }
        deeds
    }

    fn does(&mut self, deed: Deed) {
        match deed {
            Deed::Claim { worker, run } => {
                let claimed =
                    now(self.store.claim_run(run_id(run), session(worker), FOREVER)).expect("an answer");
                if let Some(record) = claimed {
                    self.holds.insert((worker, run), held_by(worker, record));
                }
            }
            Deed::Commit { worker, run } => self.commit(worker, run),
            Deed::Cancel => self.cancel(0),
            Deed::Misfortune { dies } => {
                self.has_been_unlucky = true;
                (self.is_up[0], self.is_frozen[0]) = (!dies, !dies);
                self.holds.retain(|(worker, _), _| !dies || *worker != 0);
                now(self.store.close_session(session(0))).expect("an answer");
            }
            Deed::Thaw => {
                self.is_frozen[0] = false;
                now(self.store.renew_session(session(0), FOREVER)).expect("a session");
            }
            Deed::Deliver => {
                let Some(row) = now(self.store.read_outbox(1)).expect("an answer").pop() else { return };
                if self.planted == Planted::SettledBeforeDelivered {
                    self.settle(row.id);
                } else if self.in_hand.is_none() {
                    self.delivered.push(row.run_id);
                    self.delivered.sort_unstable();
                    self.delivered.dedup();
                }
                self.in_hand = Some((row.id, row.run_id));
            }
            Deed::Settle => {
                let Some((id, run_id)) = self.in_hand.take() else { return };
                // Whoever carried it may have died on the way.
                if self.planted == Planted::SettledBeforeDelivered && !self.has_been_unlucky {
                    self.delivered.push(run_id);
                    self.delivered.sort_unstable();
                    self.delivered.dedup();
                }
                self.settle(id);
            }
        }
    }

    fn settle(&self, id: i64) {
        now(self.store.settle_outbox(vec![OutboxSettlement::Delivered { id }])).expect("an answer");
    }

    fn commit(&mut self, worker: usize, run: usize) {
        let Some(hold) = self.holds.get(&(worker, run)).cloned() else { return };
        let (bodies, status) = what_follows(&hold, run == 0);
        let (seq, attempt) = (hold.log.len() as u32, Standing::of(&hold.log).started);
        let events: Vec<Event> = bodies
            .into_iter()
            .zip(seq + 1..)
            .map(|(body, seq)| {
                let is_start = matches!(body, EventBody::StepStarted(_));
                let is_step = is_start || body.is_outcome();
                let attempt = is_step.then_some(attempt + u16::from(is_start));
                event(seq, Some(hold.fence.epoch), attempt, body)
            })
            .collect();
        let has_started = events.iter().any(|event| matches!(event.body, EventBody::StepStarted(_)));
        let emitted = events.iter().filter(|event| matches!(event.body, EventBody::EventEmitted(_)));
        let outbox = emitted
            .filter(|_| self.planted != Planted::OutboxForgotten)
            .map(|event| OutboxMessage { seq: event.seq, topic: "it".into(), body: json!(null) });
        let ignores_fence = self.planted == Planted::FenceIgnored;
        let guard = if ignores_fence { Guard::Door } else { Guard::Engine(hold.fence) };
        let mut write = write(run, guard, hold.version, events.clone(), status);
        write.outbox = outbox.collect();
        write.release = status.is_terminal();
        match now(self.store.write_run(write)) {
            Ok(()) if status.is_terminal() => drop(self.holds.remove(&(worker, run))),
            Ok(()) => {
                let hold = self.holds.get_mut(&(worker, run)).expect("it was there");
                hold.version = RunVersion(hold.version.0 + 1);
                hold.log.extend(events);
                hold.has_done_it = has_started;
            }
            Err(WriteError::Moved) => self.read_again(worker, run),
            Err(_) => drop(self.holds.remove(&(worker, run))),
        }
    }

    fn read_again(&mut self, worker: usize, run: usize) {
        let record = now(self.store.load_run(TENANT, run_id(run))).expect("an answer").expect("it is there");
        let Some(hold) = self.holds.get_mut(&(worker, run)) else { return };
        if self.planted == Planted::NotReadAgain {
            hold.version = record.row.version;
            return;
        }
        let fence = hold.fence;
        let is_ours = record.row.lease_owner == Some(fence.session) && record.row.epoch == fence.epoch;
        if is_ours || self.planted == Planted::FenceIgnored {
            *hold = Hold { fence, has_done_it: hold.has_done_it, ..held_by(worker, record) };
        } else {
            self.holds.remove(&(worker, run));
        }
    }

    fn cancel(&mut self, run: usize) {
        let record = now(self.store.load_run(TENANT, run_id(run))).expect("an answer").expect("it is there");
        if record.row.status.is_terminal() {
            return;
        }
        self.has_canceled = true;
        let asked = event(record.row.next_seq.0, None, None, CancelRequested::default());
        let status = if record.row.lease_owner.is_some() { RunStatus::Canceling } else { RunStatus::Queued };
        let write = write(run, Guard::Door, record.row.version, vec![asked], status);
        now(self.store.write_run(write)).expect("nobody came between");
    }

    fn look(&self) -> Look {
        let load =
            |run| now(self.store.load_run(TENANT, run_id(run))).expect("an answer").expect("it is there");
        let waiting = now(self.store.read_outbox(u32::MAX)).expect("an answer");
        Look {
            records: (0..RUNS).map(load).collect(),
            waiting: waiting.into_iter().map(|row| row.run_id).collect(),
        }
    }

    /// All that makes a difference for what can come.
    fn key(&self, look: &Look) -> String {
        let rows = look.records.iter().map(|record| {
            let row = &record.row;
            let log: Vec<_> = record.events.iter().map(|it| (it.body.code(), it.epoch, it.attempt)).collect();
            (row.version, row.status, row.lease_owner, row.epoch, log)
        });
        let hold = |(who, it): (&(usize, usize), &Hold)| {
            (*who, it.fence.epoch, it.version, it.log.len(), it.has_done_it)
        };
        let holds: Vec<_> = self.holds.iter().map(hold).collect();
        let up = (self.is_up, self.is_frozen, self.has_been_unlucky, self.has_canceled);
        format!(
            "{:?} {holds:?} {up:?} {:?} {:?} {:?}",
            rows.collect::<Vec<_>>(),
            look.waiting,
            self.in_hand,
            self.delivered
        )
    }

    /// What must hold at any moment.
    fn broken_rule(&self, look: &Look) -> Option<String> {
        for RunRecord { row, events: log, .. } in &look.records {
            if row.next_seq.0 as usize != log.len() + 1 {
                return Some(format!("I1: {} events, and {} is next", log.len(), row.next_seq));
            }
            let (mut epoch, mut canceled, mut succeeded) = (Epoch(0), false, false);
            for (at, event) in log.iter().enumerate() {
                match &event.body {
                    EventBody::EngineTaken(_) => epoch = event.epoch.expect("a claim has an epoch"),
                    EventBody::CancelRequested(_) => canceled = true,
                    EventBody::StepStarted(_) if canceled => {
                        return Some("I18: a start after a cancel".into());
                    }
                    EventBody::StepSucceeded(_) if std::mem::replace(&mut succeeded, true) => {
                        return Some("I2: it succeeded twice".into());
                    }
                    EventBody::RunCompleted(_) if canceled => {
                        return Some("I5: canceled, and completed".into());
                    }
                    body if body.is_terminal() && at + 1 < log.len() => {
                        return Some("I4: something follows the end".into());
                    }
                    _ => {}
                }
                if event.epoch.is_some_and(|of| of != epoch) {
                    return Some(format!("I3: written under {:?}, and {epoch:?} holds it", event.epoch));
                }
            }
            let is_on_its_way =
                look.waiting.contains(&row.id) || self.delivered.contains(&row.id) || self.in_hand.is_some();
            if !is_on_its_way && log.iter().any(|it| matches!(it.body, EventBody::EventEmitted(_))) {
                return Some("I13: what was emitted is neither told nor waits to be".into());
            }
        }
        None
    }
}

/// What the database says of a world.
struct Look {
    records: Vec<RunRecord>,
    /// Whose messages wait.
    waiting: Vec<RunId>,
}

impl Look {
    /// What must hold where nothing moves any more.
    fn unfinished(&self) -> Option<String> {
        let open = self.records.iter().filter(|record| !record.row.status.is_terminal()).count();
        let left = self.waiting.len();
        (open + left > 0).then(|| format!("I6: {open} runs and {left} messages stay where they are"))
    }
}

fn new_run(run: usize, version_id: VersionId) -> NewRun {
    NewRun {
        id: run_id(run),
        tenant: TENANT,
        version_id,
        pin: Pin::Inline,
        parent: None,
        priority: Priority::Normal,
        labels: Labels::new(),
        event: event(1, None, None, RunCreated { inputs: Payload::null(), ..RunCreated::default() }),
        projection: Projection { started_at: None, ..projection(RunStatus::Queued) },
        blobs: Vec::new(),
        group: None,
        firing: None,
        remember: None,
    }
}

fn held_by(worker: usize, record: RunRecord) -> Hold {
    let fence = Fence { session: session(worker), epoch: record.row.epoch };
    Hold { fence, version: record.row.version, log: record.events, has_done_it: false }
}

/// The rules of an engine, as far as they matter here. The first run emits something.
fn what_follows(hold: &Hold, emits: bool) -> (Vec<EventBody>, RunStatus) {
    let it = Standing::of(&hold.log);
    let is_open = it.started > it.ended;
    match () {
        () if is_open && !hold.has_done_it => (vec![StepLost { retry: true }.into()], RunStatus::Running),
        () if is_open => {
            let emitted = EventEmitted { kind: "it".into(), data: Payload::null() };
            let bodies =
                [EventBody::from(StepSucceeded::default())].into_iter().chain(emits.then(|| emitted.into()));
            (bodies.collect(), RunStatus::Running)
        }
        () if it.is_canceled => (vec![RunCanceled::default().into()], RunStatus::Canceled),
        () if it.has_succeeded => {
            (vec![RunCompleted { output: Payload::null() }.into()], RunStatus::Completed)
        }
        () => (vec![StepStarted::default().into()], RunStatus::Running),
    }
}

fn write(run: usize, guard: Guard, version: RunVersion, events: Vec<Event>, status: RunStatus) -> RunWrite {
    RunWrite {
        run_id: run_id(run),
        tenant: TENANT,
        guard,
        version,
        events,
        projection: projection(status),
        release: false,
        snapshot: None,
        blobs: Vec::new(),
        approvals: Vec::new(),
        outbox: Vec::new(),
        children: Vec::new(),
        finished: Vec::new(),
        leaves_group: false,
        remember: None,
    }
}

/// Tries everything. Returns how many states there are, or the first rule that was broken, and the way there.
fn explore(planted: Planted) -> Result<usize, String> {
    let world = World::new(planted);
    let first = world.key(&world.look());
    let mut seen = HashSet::from([first.clone()]);
    let mut open = VecDeque::from([(world, first, Vec::new())]);
    while let Some((world, here, way)) = open.pop_front() {
        let mut moves = false;
        for deed in world.deeds() {
            let mut next = world.fork();
            next.does(deed);
            let look = next.look();
            let key = next.key(&look);
            // Nothing may wait for what only a misfortune or a person brings.
            moves |= key != here && !matches!(deed, Deed::Misfortune { .. } | Deed::Cancel);
            if !seen.insert(key.clone()) {
                continue;
            }
            let way: Vec<Deed> = way.iter().copied().chain([deed]).collect();
            if let Some(problem) = next.broken_rule(&look) {
                return Err(format!("{problem}, after {way:?}"));
            }
            assert!(seen.len() < STATES_MAX, "the model has grown");
            open.push_back((next, key, way));
        }
        if let (false, Some(problem)) = (moves, world.look().unfinished()) {
            return Err(format!("{problem}, after {way:?}"));
        }
    }
    Ok(seen.len())
}

#[test]
fn in_whatever_order_they_come_two_workers_a_cancel_and_a_misfortune_break_no_rule() {
    let states = explore(Planted::Nothing).unwrap_or_else(|problem| panic!("{problem}"));
    assert!(states > 5_000, "only {states} states: something is never reached");
}

#[test]
fn every_planted_bug_is_found() {
    for (planted, rule) in [
        (Planted::FenceIgnored, "I3"),
        (Planted::NotReadAgain, "I"),
        (Planted::OutboxForgotten, "I13"),
        (Planted::SettledBeforeDelivered, "I13"),
    ] {
        let found = explore(planted).expect_err("a planted bug");
        assert!(found.starts_with(rule), "{planted:?}: {found}");
    }
}
