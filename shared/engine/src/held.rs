//! A run in the hands of this engine: tick, wait for news, tick again, until it parks.

mod children;
mod fold;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use windlass_model::open_work::Work;
use windlass_model::payload::Blob;
use windlass_model::state::FoldError;
use windlass_model::{
    Event, EventSeq, Input, Plan, Ring, RunId, RunState, RunVersion, Timestamp, decide, open_work, planted,
};
use windlass_store::{Fence, Guard, NewRun, PlanError, RunWrite, StoreError, WriteError, point};

use self::fold::fold;
use crate::attempt::{Attempt, Ended, panicked};
use crate::call::{Call, Heritage};
use crate::engine::Engine;
use crate::family;
use crate::patience::{RETRY_PAUSE, patiently};

/// A run that will wake by itself this soon is held instead of parked and claimed again.
const HOLD_NEAR: Duration = Duration::from_millis(250);
/// Outcomes that one tick takes in at the most.
const OUTCOMES_PER_TICK_MAX: usize = 128;
/// A held run says this often, within the stale time, that it is alive.
const PULSES_PER_STALE_TIME: u32 = 4;

/// News for a held run.
pub(crate) enum Message {
    /// The door wrote to it, or a child of it has ended.
    Moved,
}

/// Why a run could not be taken or moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("a payload lies in no blob: {0}")]
    MissingBlob(String),
}

/// What became of a tick.
enum Ticked {
    /// Committed; the run is still ours.
    Goes,
    /// Committed, and the run was let go.
    Parked,
    /// The run is no longer ours.
    Lost,
}

pub(crate) struct HeldRun {
    engine: Arc<Engine>,
    /// What its children have from it.
    heritage: Heritage,
    fence: Fence,
    version: RunVersion,
    plan: Arc<Plan>,
    state: RunState,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Attempts in flight, and how to stop them.
    running: BTreeMap<Work, CancellationToken>,
    tasks: JoinSet<Ended>,
    task_work: BTreeMap<Id, Work>,
    /// What could not even be started.
    ended: Vec<Ended>,
    /// Children that this engine has asked to stop. Another one asks again: it cannot know.
    recalled: BTreeSet<RunId>,
    /// Whether more children may have ended than the last tick took in.
    has_more_ended: bool,
}

/// What a wait brought.
#[derive(Default)]
struct News {
    inputs: Vec<Input>,
    blobs: Vec<Blob>,
    /// Runs that steps are ready to start.
    children: Vec<NewRun>,
    moved: bool,
    drain_is_over: bool,
}

impl HeldRun {
    /// Takes the lease and folds the run. None when there is nothing to take.
    pub(crate) async fn claim(
        engine: Arc<Engine>,
        run_id: RunId,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> Result<Option<Self>, HoldError> {
        let parts = &engine.parts;
        let session = parts.lease.session();
        let Some(record) = parts.store.claim_run(run_id, session, parts.options.stale_after).await? else {
            return Ok(None);
        };
        point("engine.claimed");
        let fence = Fence { session, epoch: record.row.epoch };
        let (priority, version) = (record.row.priority, record.row.version);
        let heritage = Heritage { tenant: record.row.tenant, priority, labels: record.row.labels.clone() };
        let plan = patiently(|| parts.plans.get(record.row.version_id)).await?;
        if let Some(taken) = record.events.last() {
            parts.bus.publish(run_id, vec![taken.clone()]);
        }
        point("engine.claim_told");
        let state = fold(&engine, &plan, record).await?;
        Ok(Some(Self {
            engine,
            heritage,
            fence,
            version,
            plan,
            state,
            inbox,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            task_work: BTreeMap::new(),
            ended: Vec::new(),
            recalled: BTreeSet::new(),
            has_more_ended: false,
        }))
    }

    /// Tick until the run parks, ends, or is lost.
    pub(crate) async fn run(&mut self) {
        let mut news = News { inputs: vec![Input::Taken], ..News::default() };
        self.has_more_ended = true;
        loop {
            match self.tick(news).await {
                Ok(Ticked::Goes) => {}
                Ok(Ticked::Parked) => return self.parked().await,
                Ok(Ticked::Lost) => {
                    metrics::counter!("windlass_leases_lost_total").increment(1);
                    info!(run.id = %self.state.run_id, epoch = %self.fence.epoch, "Lease lost; dropping the run");
                    return;
                }
                Err(error) => {
                    error!(run.id = %self.state.run_id, error = %error, "Run cannot be moved; leaving it to the stale sweep");
                    return;
                }
            }
            if self.recall_children().await || self.has_more_ended {
                news = News::default();
                continue;
            }
            news = match self.wait().await {
                Some(news) => news,
                None => return,
            };
        }
    }

    fn ring(&self) -> Ring {
        let Heritage { tenant, priority, .. } = self.heritage;
        Ring { run_id: self.state.run_id, tenant, priority }
    }

    async fn parked(&mut self) {
        point("engine.parked");
        self.inbox.close();
        if self.inbox.try_recv().is_ok() {
            // A child ended just then; nothing else is told without the version being moved.
            self.engine.parts.bus.ring(self.ring());
        }
        if self.engine.draining.is_cancelled() && self.state.wants_engine() {
            // Let go with work to do: another worker need not wait for its sweep.
            self.engine.parts.bus.ring(self.ring());
        }
        if let Some(at) = self.state.wake_at() {
            let after = self.engine.parts.clock.now().until(at);
            self.engine.wake(self.ring(), after);
        }
        if self.state.is_terminal() {
            let status = self.state.status(false).as_str();
            let took = self.state.created_at.until(self.state.ended_at.unwrap_or_default());
            metrics::counter!("windlass_runs_ended_total", "status" => status).increment(1);
            metrics::histogram!("windlass_run_duration_seconds", "status" => status)
                .record(took.as_secs_f64());
            debug!(run.id = %self.state.run_id, status, "Run ended");
            Box::pin(self.give_place_back()).await;
            if let Some(parent) = &self.state.parent {
                point("engine.before_parent_is_told");
                family::tell_parent(&self.engine.parts, self.heritage.tenant, parent.run_id).await;
                point("engine.parent_is_told");
            }
        }
    }
}

// ---- the tick ----------------------------------------------------------------------------------

impl HeldRun {
    /// Decides about `news` and commits what follows, together with whatever starts next.
    async fn tick(&mut self, news: News) -> Result<Ticked, HoldError> {
        let News { mut inputs, blobs, children, moved, drain_is_over } = news;
        let has_ended_children = moved || self.has_more_ended;
        let drains = self.engine.draining.is_cancelled();
        match (drains, drain_is_over) {
            (_, true) => inputs.push(Input::Drain),
            // A draining engine records what its runners bring, and begins nothing.
            (true, false) => {}
            (false, false) => inputs.push(Input::Advance),
        }
        if moved && !Box::pin(self.reload()).await? {
            return Ok(Ticked::Lost);
        }
        if has_ended_children {
            // After what a claim says, before what follows from all of it.
            let place = usize::from(matches!(inputs.first(), Some(Input::Taken)));
            inputs.splice(place..place, self.ended_children().await?);
        }
        if !drains && self.state.asks_for_place(self.engine.parts.clock.now()) {
            match Box::pin(self.ask_for_place()).await? {
                Some(refusal) => inputs.insert(0, refusal),
                // The place stands in the log.
                None if !Box::pin(self.reload()).await? => return Ok(Ticked::Lost),
                None => {}
            }
        }
        let mut must_reload = false;
        loop {
            if must_reload && !Box::pin(self.reload()).await? {
                return Ok(Ticked::Lost);
            }
            // Here, and not once: when the run was read again, it may have been given its place meanwhile.
            let has_asked = inputs.iter().any(|input| matches!(input, Input::Turn(_)));
            if !drains && !has_asked && self.state.asks_for_turn(&self.plan, self.engine.parts.clock.now()) {
                inputs.insert(0, Box::pin(self.ask_for_turn()).await?);
            }
            let now = self.engine.parts.clock.now();
            let next_seq = self.state.last_seq.next();
            let events = self.decide(&inputs, now);
            let parks = self.parks(now, drains);
            point("engine.decided");
            if planted("deed_before_commit") {
                self.start_open_work(now).await?;
            }
            if events.is_empty() && !parks {
                return self.start_open_work(now).await;
            }
            match self.commit(events, &blobs, &children, parks).await {
                Ok(()) if parks => return Ok(Ticked::Parked),
                Ok(()) => return self.start_open_work(now).await,
                Err(WriteError::Fenced) => return Ok(Ticked::Lost),
                // The state has run ahead of the log: read it again before deciding again.
                Err(WriteError::Moved | WriteError::KeyTaken | WriteError::Occupied { .. }) => {
                    must_reload = true;
                }
                // Asked again, the database says the same. Whoever takes the run next begins anew; three times in a
                // row, and the run is set aside.
                Err(WriteError::Store(error @ (StoreError::Refused(_) | StoreError::Damaged(_)))) => {
                    return Err(error.into());
                }
                Err(WriteError::Store(error @ StoreError::Unavailable(_))) => {
                    warn!(run.id = %self.state.run_id, error = %error, "Commit unknown; reading back");
                    if planted("unknown_commit_taken_for_done") {
                        self.version.0 += 1;
                        return self.start_open_work(now).await;
                    }
                    must_reload = true;
                    if self.was_written(next_seq).await {
                        inputs = vec![Input::Advance];
                    }
                }
            }
        }
    }

    fn decide(&mut self, inputs: &[Input], now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        for input in inputs {
            match decide(&self.plan, &mut self.state, input.clone(), now) {
                Ok(more) => events.extend(more),
                Err(rejection) => {
                    error!(run.id = %self.state.run_id, %rejection, "An engine's input was rejected")
                }
            }
        }
        events
    }

    /// Whether the run is to be let go with this tick.
    fn parks(&self, now: Timestamp, drains: bool) -> bool {
        let wakes_soon = || {
            !self.state.is_terminal()
                && self.state.pause_reason().is_none()
                && self.state.wake_at().is_some_and(|at| now.until(at) <= HOLD_NEAR)
        };
        let is_at_rest = self.state.in_flight.is_empty() && !self.has_more_ended && !self.owes_recall();
        is_at_rest && (drains || !wakes_soon())
    }

    async fn commit(
        &mut self,
        events: Vec<Event>,
        blobs: &[Blob],
        children: &[NewRun],
        parks: bool,
    ) -> Result<(), WriteError> {
        let guard = Guard::Engine(self.fence);
        let mut write = RunWrite::new(
            self.heritage.tenant,
            guard,
            self.version,
            &self.plan,
            &self.state,
            events.clone(),
            !parks,
        );
        write.blobs.extend_from_slice(blobs);
        // Only those of which the log says that they were started.
        write.children =
            children.iter().filter(|child| children::starts(&events, child.id)).cloned().collect();
        let started: Vec<_> = write.children.iter().map(|child| (child.id, child.event.clone())).collect();
        point(if parks { "engine.before_release" } else { "engine.before_commit" });
        if !started.is_empty() {
            point("engine.before_child");
        }
        self.engine.parts.store.write_run(write).await?;
        point(if parks { "engine.released" } else { "engine.committed" });
        self.version.0 += 1;
        metrics::counter!("windlass_ticks_total").increment(1);
        self.engine.parts.bus.publish(self.state.run_id, events);
        point("engine.told");
        for (run_id, event) in started {
            point("engine.child_written");
            self.engine.parts.bus.publish(run_id, vec![event]);
            self.engine.parts.bus.ring(Ring { run_id, ..self.ring() });
        }
        Ok(())
    }

    /// After a commit of unknown outcome: only this engine writes under this epoch, so an event of this
    /// epoch at that place is what was sent. Asks until the database answers.
    async fn was_written(&self, first: EventSeq) -> bool {
        let store = &self.engine.parts.store;
        loop {
            tokio::time::sleep(RETRY_PAUSE).await;
            match store.read_events(self.heritage.tenant, self.state.run_id, EventSeq(first.0 - 1), 1).await {
                Ok(events) => {
                    let epoch = events.and_then(|events| events.first().and_then(|event| event.epoch));
                    return epoch == Some(self.fence.epoch);
                }
                Err(error) => debug!(run.id = %self.state.run_id, error = %error, "Still no answer"),
            }
        }
    }

    /// Reads the run again. False when it is no longer ours.
    async fn reload(&mut self) -> Result<bool, HoldError> {
        point("engine.before_reload");
        let store = &self.engine.parts.store;
        let record = patiently(|| store.load_run(self.heritage.tenant, self.state.run_id)).await?;
        let Some(record) = record else { return Ok(false) };
        let ours = record.row.lease_owner == Some(self.fence.session) && record.row.epoch == self.fence.epoch;
        if !ours && !planted("fence_ignored") {
            return Ok(false);
        }
        self.version = record.row.version;
        self.state = fold(&self.engine, &self.plan, record).await?;
        point("engine.reloaded");
        Ok(true)
    }

    /// Starts whatever should be in flight and is not; stops everything when the run is stopping.
    async fn start_open_work(&mut self, now: Timestamp) -> Result<Ticked, HoldError> {
        if self.state.is_stopping(now) {
            self.running.values().for_each(CancellationToken::cancel);
        }
        // Only a machine can leave a state, and its step with it: in any other run, nothing in flight is ever left alone.
        if self.state.machine.is_none() && self.state.in_flight.len() <= self.running.len() {
            return Ok(Ticked::Goes);
        }
        let open: BTreeSet<Work> = open_work(&self.state).collect();
        for (work, token) in &self.running {
            // A machine has left the state that invoked it.
            if !open.contains(work) {
                token.cancel();
            }
        }
        let new: Vec<Work> = open.into_iter().filter(|work| !self.running.contains_key(work)).collect();
        if new.is_empty() {
            return Ok(Ticked::Goes);
        }
        let parts = &self.engine.parts;
        if !parts.lease.is_safe() {
            parts.lease.until_safe().await;
            if !patiently(|| parts.store.touch_run(self.state.run_id, self.fence)).await? {
                return Ok(Ticked::Lost);
            }
        }
        point("engine.before_attempts");
        for work in new {
            let cancel = CancellationToken::new();
            self.running.insert(work, cancel.clone());
            if let Some(call) = Call::prepare(&self.plan, &self.state, work, &self.heritage, &cancel) {
                match call {
                    Err(ended) => self.ended.push(*ended),
                    Ok(call) => {
                        let engine = self.engine.clone();
                        let task = self.tasks.spawn(async move { call.run(&engine.parts).await });
                        self.task_work.insert(task.id(), work);
                    }
                }
                continue;
            }
            match Attempt::prepare(
                parts,
                self.heritage.tenant,
                &self.plan,
                &self.state,
                work,
                cancel,
                self.fence,
            ) {
                Err(ended) => self.ended.push(*ended),
                Ok(attempt) => {
                    let engine = self.engine.clone();
                    let task = self.tasks.spawn(async move { attempt.run(&engine.parts).await });
                    self.task_work.insert(task.id(), work);
                }
            }
        }
        point("engine.attempts_begun");
        Ok(Ticked::Goes)
    }
}

// ---- the wait ----------------------------------------------------------------------------------

impl HeldRun {
    /// Waits for something that can move the run. None when the lease turned out to be lost.
    async fn wait(&mut self) -> Option<News> {
        let mut news = News::default();
        loop {
            self.take_ended(&mut news);
            let draining = self.engine.draining.is_cancelled();
            if !news.inputs.is_empty() || (draining && self.state.in_flight.is_empty()) {
                return Some(news);
            }
            let engine = self.engine.clone();
            let wake_at = self.next_wake(draining);
            tokio::select! {
                biased;
                Some(Message::Moved) = self.inbox.recv() => {
                    // One look sees what all of them are about.
                    while self.inbox.try_recv().is_ok() {}
                    news.moved = true;
                    return Some(news);
                }
                Some(joined) = self.tasks.join_next_with_id() => self.ended_with(joined),
                () = sleep_until(wake_at) => return Some(news),
                () = tokio::time::sleep(engine.parts.options.stale_after / PULSES_PER_STALE_TIME) => {
                    if !self.is_still_ours().await {
                        return None;
                    }
                }
                () = engine.draining.cancelled(), if !draining => {}
                () = sleep_until(engine.drain_ends_at.get().copied()), if draining => {
                    self.tasks.abort_all();
                    self.running.clear();
                    news.drain_is_over = true;
                    return Some(news);
                }
            }
        }
    }

    /// When time alone moves the run. A run that is stopping waits for its runners only.
    fn next_wake(&self, draining: bool) -> Option<Instant> {
        let now = self.engine.parts.clock.now();
        if draining || self.state.is_stopping(now) {
            return None;
        }
        self.state.wake_at().map(|at| Instant::now() + now.until(at))
    }

    /// Tells the database that the run is alive although it writes nothing.
    async fn is_still_ours(&self) -> bool {
        let touched = self.engine.parts.store.touch_run(self.state.run_id, self.fence).await;
        // An error is no answer: the fence will tell when there is something to commit.
        touched.unwrap_or(true)
    }

    fn ended_with(&mut self, joined: Result<(Id, Ended), JoinError>) {
        let ended = match joined {
            Ok((id, ended)) => {
                self.task_work.remove(&id);
                ended
            }
            Err(error) => match self.task_work.remove(&error.id()) {
                Some(work) => panicked(work),
                None => return,
            },
        };
        self.ended.push(ended);
    }

    fn take_ended(&mut self, news: &mut News) {
        while news.inputs.len() < OUTCOMES_PER_TICK_MAX {
            let ended = match self.ended.pop() {
                Some(ended) => ended,
                None => match self.tasks.try_join_next_with_id() {
                    Some(joined) => {
                        self.ended_with(joined);
                        continue;
                    }
                    None => return,
                },
            };
            point("engine.outcome_taken");
            let Ended { work, outcome, blobs, child } = ended;
            self.running.remove(&work);
            news.blobs.extend(blobs);
            news.children.extend(child.map(|child| *child));
            news.inputs.push(Input::Outcome {
                node: work.node,
                item: work.item,
                attempt: work.attempt,
                outcome,
            });
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
