//! The database as one process reaches it: late, sometimes not at all, and with answers that get lost.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use windlass_model::callee::CalleeKind;
use windlass_model::circuit::{Admission, Circuit, CircuitKey, CircuitStep, Guarded};
use windlass_model::concurrency::Member;
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, RateLimit, Turn};
use windlass_model::{Digest, Event, EventSeq, RunId, SessionId, TenantId, Timestamp, VersionId};
use windlass_store::memory::MemoryStore;
use windlass_store::{
    Account, Admissions, ApprovalCursor, ApprovalFilter, ApprovalRow, Blobs, CalleeRow, Callees, Circuits,
    Damage, Definition, Due, EndedChild, Fence, Firing, Groups, Guard, IdempotencyKey, Integrity, Mend,
    NewCallee, NewRun, NewSchedule, NewWorkflow, Newcomer, Outbox, OutboxRow, OutboxSettlement, PutCallee,
    PutWorkflow, RateLimits, Rebuild, RepairRow, Reply, RunCounts, RunFilter, RunRecord, RunRow, RunWrite,
    Runs, ScheduleRow, Schedules, Sessions, StoreError, VersionRow, WorkflowFilter, WorkflowRow, Workflows,
    WriteError,
};

use super::process::Process;
use super::{Created, World};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Works,
    /// The database does not answer; nothing happened.
    Away,
    /// The answer gets lost, and the write with it.
    LostBeforeCommit,
    /// The answer gets lost; the write has happened.
    LostAfterCommit,
}

pub(crate) struct SimStore {
    pub(super) world: Arc<World>,
    pub(super) process: Arc<Process>,
}

impl SimStore {
    fn database(&self) -> &MemoryStore {
        &self.world.database
    }

    /// The schedule of a firing as it stands.
    async fn schedule_of(&self, firing: Option<&Firing>) -> Option<ScheduleRow> {
        let firing = firing?;
        self.database().get_schedule(firing.tenant, &firing.name).await.ok()?
    }

    /// Carries a question to the database and its answer back.
    async fn read<T>(
        &self,
        what: &'static str,
        deed: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.travel().await;
        let answer = match self.world.fate_of_read(&self.process) {
            Fate::Works => deed.await,
            _ => Err(away()),
        };
        self.world.note(format_args!("{} {what} {}", self.process.name, word(&answer)));
        self.return_trip().await;
        answer
    }

    /// As [`Self::read`], for what changes something. `observe` sees what really happened.
    async fn write<T, E: From<StoreError> + Debug>(
        &self,
        what: &'static str,
        deed: impl Future<Output = Result<T, E>>,
        observe: impl FnOnce(&Result<T, E>),
    ) -> Result<T, E> {
        self.travel().await;
        let fate = self.world.fate_of_write(&self.process);
        let answer = match fate {
            Fate::Away | Fate::LostBeforeCommit => Err(away().into()),
            Fate::Works | Fate::LostAfterCommit => {
                let done = deed.await;
                observe(&done);
                done
            }
        };
        self.world.note(format_args!("{} {what} {fate:?} {}", self.process.name, word(&answer)));
        self.return_trip().await;
        match fate {
            Fate::LostAfterCommit if answer.is_ok() => Err(away().into()),
            _ => answer,
        }
    }

    async fn travel(&self) {
        self.process.passes().await;
        let latency = self.world.latency();
        if latency > Duration::ZERO {
            tokio::time::sleep(latency).await;
            self.process.passes().await;
        }
        self.world.keep_time();
    }

    async fn return_trip(&self) {
        let latency = self.world.latency();
        if latency > Duration::ZERO {
            tokio::time::sleep(latency).await;
        }
        self.process.passes().await;
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("the schedule says so".into())
}

fn word<T, E: Debug>(answer: &Result<T, E>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

#[async_trait]
impl Runs for SimStore {
    async fn create_run(&self, run: NewRun) -> Result<(), WriteError> {
        let (id, firing, new) = (run.id, run.firing.clone(), Created::from(&run));
        let schedule = Mutex::new(None);
        let create = async {
            *schedule.lock().expect("one thread") = self.schedule_of(firing.as_ref()).await;
            self.database().create_run(run).await
        };
        self.write("create_run", create, |done| {
            if done.is_ok() {
                self.world.note(format_args!("{id} created"));
                self.world.created(&new, &self.process);
            }
            if let Some(firing) = &firing {
                let schedule = schedule.lock().expect("one thread").take();
                self.world.fired(firing, schedule.as_ref(), Some(id), done);
            }
        })
        .await
    }

    async fn write_run(&self, write: RunWrite) -> Result<(), WriteError> {
        let (run_id, guard) = (write.run_id, write.guard);
        let ends = write.projection.status.is_terminal();
        let lets_go = ends || (guard != Guard::Door && write.release);
        let kinds: Vec<&'static str> = write.events.iter().map(|event| event.body.name()).collect();
        let children: Vec<Created> = write.children.iter().map(Created::from).collect();
        let happened = AtomicBool::new(false);
        let observe = |done: &Result<(), WriteError>| {
            happened.store(done.is_ok(), Ordering::Relaxed);
            self.world.note(format_args!("{run_id} {guard:?} {kinds:?}"));
            self.world.wrote(run_id, guard, lets_go, done);
            if done.is_ok() {
                self.world.has_ended(run_id, ends);
                children.iter().for_each(|new| self.world.created(new, &self.process));
            }
            if done.is_ok() && kinds.contains(&"step.started") {
                self.world.began(run_id);
            }
            if let Some(parent) =
                self.world.row(run_id).and_then(|row| row.parent).filter(|_| ends && done.is_ok())
            {
                self.world.child_ended(parent);
            }
        };
        let answer = self.write("write_run", self.database().write_run(write), observe).await;
        if guard != Guard::Door && matches!(answer, Err(WriteError::Store(_))) {
            let happened = happened.load(Ordering::Relaxed);
            self.world.reach.hit(if happened {
                "commit_unknown_applied"
            } else {
                "commit_unknown_not_applied"
            });
        }
        answer
    }

    async fn claim_run(
        &self,
        run_id: RunId,
        session: SessionId,
        stale_after: Duration,
    ) -> Result<Option<RunRecord>, StoreError> {
        let before = Mutex::new(None);
        let claim = async {
            *before.lock().expect("one thread") = self.world.row(run_id);
            self.database().claim_run(run_id, session, stale_after).await
        };
        self.write("claim_run", claim, |done| match done {
            Ok(Some(record)) => {
                let before = before.lock().expect("one thread").take();
                self.world.claimed(before.as_ref(), &record.row, stale_after);
                if record.snapshot.is_some() {
                    self.world.reach.hit("snapshot_read");
                }
            }
            Ok(None) => self.world.reach.hit("doorbell_for_nothing"),
            Err(_) => {}
        })
        .await
    }

    async fn touch_run(&self, run_id: RunId, fence: Fence) -> Result<bool, StoreError> {
        self.write("touch_run", self.database().touch_run(run_id, fence), |done| {
            if matches!(done, Ok(false)) {
                self.world.reach.hit("pulse_refused");
            }
        })
        .await
    }

    async fn get_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.read("get_run", self.database().get_run(tenant, run_id)).await
    }

    async fn load_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRecord>, StoreError> {
        let record = self.read("load_run", self.database().load_run(tenant, run_id)).await?;
        if record.as_ref().is_some_and(|record| record.snapshot.is_some()) {
            self.world.reach.hit("snapshot_read");
        }
        Ok(record)
    }

    async fn list_runs(
        &self,
        tenant: TenantId,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.read("list_runs", self.database().list_runs(tenant, filter, before, limit)).await
    }

    async fn read_events(
        &self,
        tenant: TenantId,
        run_id: RunId,
        after: EventSeq,
        limit: u32,
    ) -> Result<Option<Vec<Event>>, StoreError> {
        let events =
            self.read("read_events", self.database().read_events(tenant, run_id, after, limit)).await?;
        let is_more = after.0 > 0 && events.as_ref().is_some_and(|events| !events.is_empty());
        if is_more && self.process.is_api() {
            self.world.reach.hit("stream_filled_a_gap");
        }
        Ok(events)
    }

    async fn list_approvals(
        &self,
        tenant: TenantId,
        filter: &ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: u32,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        self.read("list_approvals", self.database().list_approvals(tenant, filter, after, limit)).await
    }

    async fn find_due(
        &self,
        session: SessionId,
        horizon: Duration,
        stale_after: Duration,
        limit: u32,
    ) -> Result<Due, StoreError> {
        let look = self.database().find_due(session, horizon, stale_after, limit);
        let due = self.read("find_due", look).await?;
        if !due.moved.is_empty() {
            self.world.reach.hit("poke_made_up_for");
        }
        Ok(due)
    }

    async fn find_ended_children(
        &self,
        tenant: TenantId,
        parent: RunId,
        limit: u32,
    ) -> Result<Vec<EndedChild>, StoreError> {
        self.read("find_ended_children", self.database().find_ended_children(tenant, parent, limit)).await
    }

    async fn count_runs(&self) -> Result<RunCounts, StoreError> {
        self.read("count_runs", self.database().count_runs()).await
    }

    async fn count_open_runs(&self, tenant: TenantId, limit: u32) -> Result<u64, StoreError> {
        self.read("count_open_runs", self.database().count_open_runs(tenant, limit)).await
    }
}

#[async_trait]
impl Callees for SimStore {
    async fn put_callee(&self, new: NewCallee) -> Result<PutCallee, WriteError> {
        self.write("put_callee", self.database().put_callee(new), |_| {}).await
    }

    async fn get_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
    ) -> Result<Option<(CalleeRow, String)>, StoreError> {
        self.read("get_callee", self.database().get_callee(tenant, kind, name)).await
    }

    async fn list_callees(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CalleeRow>, StoreError> {
        self.read("list_callees", self.database().list_callees(tenant, kind, after, limit)).await
    }

    async fn delete_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        self.write("delete_callee", self.database().delete_callee(tenant, kind, name, revision), |_| {}).await
    }
}

#[async_trait]
impl Schedules for SimStore {
    async fn put_schedule(&self, new: NewSchedule) -> Result<(ScheduleRow, bool), WriteError> {
        self.write("put_schedule", self.database().put_schedule(new), |_| {}).await
    }

    async fn get_schedule(&self, tenant: TenantId, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        self.read("get_schedule", self.database().get_schedule(tenant, name)).await
    }

    async fn list_schedules(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read("list_schedules", self.database().list_schedules(tenant, after, limit)).await
    }

    async fn delete_schedule(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        self.write("delete_schedule", self.database().delete_schedule(tenant, name, revision), |_| {}).await
    }

    async fn find_due_schedules(&self, limit: u32) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read("find_due_schedules", self.database().find_due_schedules(limit)).await
    }

    async fn fire_schedule(&self, firing: Firing) -> Result<(), WriteError> {
        let schedule = Mutex::new(None);
        let fire = async {
            *schedule.lock().expect("one thread") = self.schedule_of(Some(&firing)).await;
            self.database().fire_schedule(firing.clone()).await
        };
        self.write("fire_schedule", fire, |done| {
            let schedule = schedule.lock().expect("one thread").take();
            self.world.fired(&firing, schedule.as_ref(), None, done);
        })
        .await
    }
}

#[async_trait]
impl Groups for SimStore {
    async fn admit_runs(
        &self,
        tenant: TenantId,
        group: &str,
        newcomer: Option<Newcomer>,
    ) -> Result<Admissions, StoreError> {
        self.write("admit_runs", self.database().admit_runs(tenant, group, newcomer), |_| {}).await
    }

    async fn list_group(&self, tenant: TenantId, group: &str, limit: u32) -> Result<Vec<Member>, StoreError> {
        self.read("list_group", self.database().list_group(tenant, group, limit)).await
    }
}

#[async_trait]
impl Circuits for SimStore {
    async fn look_at_circuit(&self, key: &CircuitKey) -> Result<Admission, StoreError> {
        let look = async {
            let answer = self.database().look_at_circuit(key).await;
            if let Ok(answer) = &answer {
                self.world.asked_circuit(key, *answer);
            }
            answer
        };
        self.read("look_at_circuit", look).await
    }

    async fn step_circuit(&self, key: CircuitKey, step: CircuitStep) -> Result<Admission, StoreError> {
        let stepped = self.database().step_circuit(key.clone(), step.clone());
        self.write("step_circuit", stepped, |done| {
            if let Ok(answer) = done {
                self.world.told_circuit(key, &step, *answer);
            }
        })
        .await
    }

    async fn list_circuits(
        &self,
        tenant: TenantId,
        after: Option<(Guarded, String)>,
        limit: u32,
    ) -> Result<Vec<(CircuitKey, Circuit)>, StoreError> {
        self.read("list_circuits", self.database().list_circuits(tenant, after, limit)).await
    }

    async fn count_open_circuits(&self) -> Result<u64, StoreError> {
        self.read("count_open_circuits", self.database().count_open_circuits()).await
    }
}

#[async_trait]
impl RateLimits for SimStore {
    async fn take_turn(&self, key: LimitKey, limit: RateLimit) -> Result<Turn, StoreError> {
        let taken = self.database().take_turn(key.clone(), limit);
        self.write("take_turn", taken, |done| {
            if let Ok(turn) = done {
                self.world.took_turn(&key, limit, *turn);
            }
        })
        .await
    }

    async fn list_rate_limits(
        &self,
        tenant: TenantId,
        after: Option<(Limited, String)>,
        limit: u32,
    ) -> Result<Vec<(LimitKey, LimitState)>, StoreError> {
        self.read("list_rate_limits", self.database().list_rate_limits(tenant, after, limit)).await
    }

    async fn reset_rate_limit(&self, key: LimitKey) -> Result<bool, StoreError> {
        self.write("reset_rate_limit", self.database().reset_rate_limit(key), |_| {}).await
    }
}

#[async_trait]
impl Workflows for SimStore {
    async fn put_workflow(&self, new: NewWorkflow) -> Result<PutWorkflow, WriteError> {
        self.write("put_workflow", self.database().put_workflow(new), |_| {}).await
    }

    async fn get_workflow(&self, tenant: TenantId, name: &str) -> Result<Option<WorkflowRow>, StoreError> {
        self.read("get_workflow", self.database().get_workflow(tenant, name)).await
    }

    async fn list_workflows(
        &self,
        tenant: TenantId,
        filter: &WorkflowFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError> {
        self.read("list_workflows", self.database().list_workflows(tenant, filter, after, limit)).await
    }

    async fn delete_workflow(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError> {
        self.write("delete_workflow", self.database().delete_workflow(tenant, name, revision), |_| {}).await
    }

    async fn list_versions(
        &self,
        tenant: TenantId,
        name: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Option<Vec<VersionRow>>, StoreError> {
        self.read("list_versions", self.database().list_versions(tenant, name, before, limit)).await
    }

    async fn get_version(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<VersionRow>, StoreError> {
        self.read("get_version", self.database().get_version(tenant, name, version)).await
    }

    async fn get_definition(&self, id: VersionId) -> Result<Option<VersionRow>, StoreError> {
        self.read("get_definition", self.database().get_definition(id)).await
    }

    async fn put_inline(&self, tenant: TenantId, definition: Definition) -> Result<VersionId, StoreError> {
        self.write("put_inline", self.database().put_inline(tenant, definition), |_| {}).await
    }
}

#[async_trait]
impl Sessions for SimStore {
    async fn renew_session(&self, session: SessionId, ttl: Duration) -> Result<Timestamp, StoreError> {
        let renewed = self.database().renew_session(session, ttl);
        self.write("renew_session", renewed, |done| {
            if let Ok(now) = done {
                self.world.renewed(session, now.plus(ttl));
            }
        })
        .await
    }

    async fn close_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.write("close_session", self.database().close_session(session), |done| {
            if done.is_ok() {
                self.world.closed(session);
            }
        })
        .await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.read("now", self.database().now()).await
    }

    async fn find_reply(&self, tenant: TenantId, key: &IdempotencyKey) -> Result<Option<Reply>, StoreError> {
        self.read("find_reply", self.database().find_reply(tenant, key)).await
    }

    async fn clean_up(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write("clean_up", self.database().clean_up(age, limit), |_| {}).await
    }
}

#[async_trait]
impl Outbox for SimStore {
    async fn read_outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.read("read_outbox", self.database().read_outbox(limit)).await
    }

    async fn settle_outbox(&self, settlements: Vec<OutboxSettlement>) -> Result<(), StoreError> {
        self.write("settle_outbox", self.database().settle_outbox(settlements), |_| {}).await
    }
}

#[async_trait]
impl Blobs for SimStore {
    async fn get_blob(&self, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("get_blob", self.database().get_blob(tenant, digest)).await
    }
}

#[async_trait]
impl Integrity for SimStore {
    async fn scan_runs(
        &self,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, RunId)>, StoreError> {
        self.read("scan_runs", self.database().scan_runs(after, limit)).await
    }

    async fn find_damage(&self, limit: u32) -> Result<Vec<Damage>, StoreError> {
        self.read("find_damage", self.database().find_damage(limit)).await
    }

    async fn mend(&self, mend: Mend, account: Account) -> Result<(), WriteError> {
        self.write("mend", self.database().mend(mend, account), |_| {}).await
    }

    async fn rebuild_run(&self, rebuild: Rebuild, accounts: Vec<Account>) -> Result<(), WriteError> {
        self.write("rebuild_run", self.database().rebuild_run(rebuild, accounts), |_| {}).await
    }

    async fn list_repairs(&self, limit: u32) -> Result<Vec<RepairRow>, StoreError> {
        self.read("list_repairs", self.database().list_repairs(limit)).await
    }
}
