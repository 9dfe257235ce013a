//! Starts the runs of schedules whose time has come.
//!
//! A run is written together with the time that the schedule waits for next, if the schedule still waits for this one: so
//! each of its times comes once, however many workers look, and whoever dies.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_boot::Beat;
use windlass_bus::Bus;
use windlass_engine::order::{self, Found, OrderError};
use windlass_model::event::RunCreated;
use windlass_model::schedule::{ScheduleSpec, Scheduled};
use windlass_model::{
    Actor, EventBody, EventSeq, Payload, Ring, RunId, RunStatus, StepError, Timestamp, decide, planted,
};
use windlass_store::{
    Firing, NewRun, Plans, Quota, QuotaError, RunRow, ScheduleRow, Store, StoreError, WriteError,
};

/// Schedules that one look takes on; the next one sees the rest.
const PAGE: u32 = 100;
/// How often a run may have been moved that is looked for: by people, one after the other.
const MOVES_MAX: u32 = 20;

pub(crate) struct Schedules {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) quota: Quota,
    pub(crate) new_run_id: fn() -> RunId,
}

impl Schedules {
    /// Sees to schedules whenever some `are_due`. Shows with each of its `turns` that it does.
    pub(crate) async fn run(
        self,
        are_due: Arc<Notify>,
        mut turns: Interval,
        beat: Beat,
        stop: CancellationToken,
    ) {
        stop.run_until_cancelled(async {
            loop {
                let seen_to = tokio::select! {
                    biased;
                    () = are_due.notified() => self.look().await,
                    _ = turns.tick() => Ok(()),
                };
                match seen_to {
                    Ok(()) => beat.beat(),
                    Err(error) => warn!(error = %error, "Schedules could not be seen to; the next look will"),
                }
            }
        })
        .await;
    }

    async fn look(&self) -> Result<(), StoreError> {
        let due = self.store.find_due_schedules(PAGE).await?;
        if due.is_empty() {
            return Ok(());
        }
        let now = self.store.now().await?;
        for row in due {
            match self.see_to(&row, now).await {
                // Another worker was faster, or somebody has changed the schedule.
                Ok(()) | Err(WriteError::Moved) => {}
                Err(WriteError::Store(error @ StoreError::Unavailable(_))) => return Err(error),
                // One that cannot be written keeps no other waiting.
                Err(other) => {
                    warn!(schedule = row.name, error = %other, "A time of a schedule was not written")
                }
            }
        }
        Ok(())
    }

    /// One time of one schedule.
    async fn see_to(&self, row: &ScheduleRow, now: Timestamp) -> Result<(), WriteError> {
        let Some(at) = row.next_at else { return Ok(()) };
        let (tenant, name, revision) = (row.tenant, row.name.clone(), row.revision);
        let mut firing = Firing { tenant, name, revision, at, next_at: None, problem: None };
        let read = serde_json::from_str::<ScheduleSpec>(&row.spec).map_err(|error| error.to_string());
        let read = read.and_then(|spec| {
            let clock = spec.clock().map_err(|(field, why)| format!("{field} {why}"))?;
            Ok((spec, clock))
        });
        let (spec, clock) = match read {
            Ok(read) => read,
            // Of a newer Windlass, perhaps. It stands still and says why.
            Err(problem) => return self.pass_over(Firing { problem: Some(problem), ..firing }).await,
        };
        let turn = spec.turn(&clock, at, now);
        firing.next_at = turn.next_at.filter(|_| !row.is_paused);
        if !turn.starts {
            let problem = Some("nobody was there, and it is too late to make up for it".to_owned());
            return self.pass_over(Firing { problem, ..firing }).await;
        }
        if let Some(run_id) = self.run_in_the_way(row, &spec).await? {
            let problem = Some(format!("run {run_id} was still under way"));
            return self.pass_over(Firing { problem, ..firing }).await;
        }
        let (workflow, version) = match spec.workflow.split_once('@') {
            Some((name, version)) => (name, version.parse().ok()),
            None => (spec.workflow.as_str(), None),
        };
        let found = match order::find(&*self.store, &self.plans, tenant, workflow, version).await {
            Ok(found) => found,
            Err(OrderError::Store(error)) => return Err(error.into()),
            Err(OrderError::Refused(error)) => return self.refuse(firing, &error).await,
        };
        match order::check_inputs(&found.plan, Value::Object(spec.inputs.clone())) {
            Ok(inputs) => self.start(firing, spec, found, inputs, now).await,
            Err(error) => self.refuse(firing, &error).await,
        }
    }

    async fn refuse(&self, firing: Firing, error: &StepError) -> Result<(), WriteError> {
        let problem = Some(format!("{}: {}", error.kind, error.message));
        self.pass_over(Firing { problem, ..firing }).await
    }

    /// The time comes, and no run starts.
    async fn pass_over(&self, firing: Firing) -> Result<(), WriteError> {
        let (name, problem) = (firing.name.clone(), firing.problem.clone().unwrap_or_default());
        self.store.fire_schedule(firing).await?;
        warn!(schedule = name, problem, "A time of a schedule has passed without a run");
        Ok(())
    }

    /// The run before, if this one must not start while it is under way.
    async fn run_in_the_way(
        &self,
        row: &ScheduleRow,
        spec: &ScheduleSpec,
    ) -> Result<Option<RunId>, StoreError> {
        let mut last = row.last_run_id.filter(|_| spec.overlap.skips() && !planted("overlap_not_looked_at"));
        for _ in 0..MOVES_MAX {
            let Some(run_id) = last else { return Ok(None) };
            let Some(run) = self.store.get_run(row.tenant, run_id).await? else { return Ok(None) };
            if !run.status.is_terminal() {
                return Ok(Some(run.id));
            }
            last = self.moved_to(&run).await?;
        }
        Ok(None)
    }

    /// The run that has taken the place of this one.
    async fn moved_to(&self, run: &RunRow) -> Result<Option<RunId>, StoreError> {
        if run.status != RunStatus::Canceled {
            return Ok(None);
        }
        let before_end = EventSeq(run.next_seq.0.saturating_sub(2));
        let end = self.store.read_events(run.tenant, run.id, before_end, 1).await?;
        Ok(end.and_then(|end| match &end.first()?.body {
            EventBody::RunCanceled(body) => body.moved_to,
            _ => None,
        }))
    }

    async fn start(
        &self,
        mut firing: Firing,
        spec: ScheduleSpec,
        found: Found,
        inputs: Payload,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let (tenant, run_id) = (firing.tenant, (self.new_run_id)());
        let Found { id, plan, .. } = found;
        let scheduled = Some(Scheduled { name: firing.name.clone(), at: firing.at });
        let mut created = RunCreated { inputs, scheduled, ..RunCreated::default() };
        match decide::group_of(&plan, run_id, &created, &spec.labels, now) {
            // What the workflow itself says about its runs counts.
            Ok(group) => created.group = group.or_else(|| spec.overlap.group(&firing.name)),
            Err(error) => return self.refuse(firing, &error).await,
        }
        let place = match self.quota.take(tenant).await {
            Ok(place) => place,
            Err(QuotaError::Store(error)) => return Err(error.into()),
            Err(full) => {
                metrics::counter!("windlass_quota_refusals_total").increment(1);
                firing.problem = Some(full.to_string());
                return self.pass_over(firing).await;
            }
        };
        let (event, state) = decide::create(&plan, run_id, created, Actor::system("schedule"), now);
        let mut run = NewRun::new(tenant, id, &state, event.clone());
        run.priority = spec.priority;
        run.labels = spec.labels;
        let (name, at) = (firing.name.clone(), firing.at);
        if planted("time_passes_before_its_run") {
            self.store.fire_schedule(firing.clone()).await?;
        } else {
            run.firing = Some(firing.clone());
        }
        let written = self.store.create_run(run).await;
        place.settle(&written);
        match written {
            Err(WriteError::Occupied { by }) => {
                firing.problem = Some(format!("run {by} is in the way: its concurrency group is full"));
                return self.pass_over(firing).await;
            }
            written => written?,
        }
        info!(schedule = name, at = %at, run.id = %run_id, "A schedule has started a run");
        self.bus.publish(run_id, vec![event]);
        self.bus.ring(Ring { run_id, tenant, priority: spec.priority });
        Ok(())
    }
}
