//! A store that takes as long as a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use windlass_model::callee::CalleeKind;
use windlass_model::circuit::{Admission, Circuit, CircuitKey, CircuitStep, Guarded};
use windlass_model::concurrency::Member;
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, RateLimit, Turn};
use windlass_model::{Digest, Event, EventSeq, RunId, SessionId, TenantId, Timestamp, VersionId};
use windlass_store::memory::MemoryStore;
use windlass_store::*;

pub(crate) struct SlowStore {
    pub inner: Arc<MemoryStore>,
    delay_ms: AtomicU64,
}

impl SlowStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: MemoryStore::new(), delay_ms: AtomicU64::new(0) })
    }

    pub(crate) fn takes(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).expect("a short time"), Ordering::SeqCst);
    }

    async fn inner(&self) -> &MemoryStore {
        tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst))).await;
        &self.inner
    }
}

type Read<T> = Result<T, StoreError>;
type Write<T> = Result<T, WriteError>;

#[async_trait]
impl Runs for SlowStore {
    async fn create_run(&self, run: NewRun) -> Write<()> {
        self.inner().await.create_run(run).await
    }
    async fn write_run(&self, write: RunWrite) -> Write<()> {
        self.inner().await.write_run(write).await
    }
    async fn claim_run(&self, id: RunId, session: SessionId, stale: Duration) -> Read<Option<RunRecord>> {
        self.inner().await.claim_run(id, session, stale).await
    }
    async fn touch_run(&self, id: RunId, fence: Fence) -> Read<bool> {
        self.inner().await.touch_run(id, fence).await
    }
    async fn get_run(&self, tenant: TenantId, id: RunId) -> Read<Option<RunRow>> {
        self.inner().await.get_run(tenant, id).await
    }
    async fn load_run(&self, tenant: TenantId, id: RunId) -> Read<Option<RunRecord>> {
        self.inner().await.load_run(tenant, id).await
    }
    async fn list_runs(
        &self,
        t: TenantId,
        by: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Read<Vec<RunRow>> {
        self.inner().await.list_runs(t, by, before, limit).await
    }
    async fn read_events(
        &self,
        t: TenantId,
        id: RunId,
        after: EventSeq,
        limit: u32,
    ) -> Read<Option<Vec<Event>>> {
        self.inner().await.read_events(t, id, after, limit).await
    }
    async fn list_approvals(
        &self,
        tenant: TenantId,
        filter: &ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: u32,
    ) -> Read<Vec<ApprovalRow>> {
        self.inner().await.list_approvals(tenant, filter, after, limit).await
    }
    async fn find_due(&self, by: SessionId, horizon: Duration, stale: Duration, limit: u32) -> Read<Due> {
        self.inner().await.find_due(by, horizon, stale, limit).await
    }
    async fn find_ended_children(&self, t: TenantId, parent: RunId, limit: u32) -> Read<Vec<EndedChild>> {
        self.inner().await.find_ended_children(t, parent, limit).await
    }
    async fn count_runs(&self) -> Read<RunCounts> {
        self.inner().await.count_runs().await
    }
    async fn count_open_runs(&self, tenant: TenantId, limit: u32) -> Read<u64> {
        self.inner().await.count_open_runs(tenant, limit).await
    }
}

#[async_trait]
impl Schedules for SlowStore {
    async fn put_schedule(&self, new: NewSchedule) -> Write<(ScheduleRow, bool)> {
        self.inner().await.put_schedule(new).await
    }
    async fn get_schedule(&self, tenant: TenantId, name: &str) -> Read<Option<ScheduleRow>> {
        self.inner().await.get_schedule(tenant, name).await
    }
    async fn list_schedules(&self, t: TenantId, after: Option<&str>, limit: u32) -> Read<Vec<ScheduleRow>> {
        self.inner().await.list_schedules(t, after, limit).await
    }
    async fn delete_schedule(&self, t: TenantId, name: &str, revision: Option<u32>) -> Write<bool> {
        self.inner().await.delete_schedule(t, name, revision).await
    }
    async fn find_due_schedules(&self, limit: u32) -> Read<Vec<ScheduleRow>> {
        self.inner().await.find_due_schedules(limit).await
    }
    async fn fire_schedule(&self, firing: Firing) -> Write<()> {
        self.inner().await.fire_schedule(firing).await
    }
}

#[async_trait]
impl Groups for SlowStore {
    async fn admit_runs(&self, t: TenantId, group: &str, newcomer: Option<Newcomer>) -> Read<Admissions> {
        self.inner().await.admit_runs(t, group, newcomer).await
    }
    async fn list_group(&self, t: TenantId, group: &str, limit: u32) -> Read<Vec<Member>> {
        self.inner().await.list_group(t, group, limit).await
    }
}

#[async_trait]
impl Circuits for SlowStore {
    async fn look_at_circuit(&self, key: &CircuitKey) -> Read<Admission> {
        self.inner().await.look_at_circuit(key).await
    }
    async fn step_circuit(&self, key: CircuitKey, step: CircuitStep) -> Read<Admission> {
        self.inner().await.step_circuit(key, step).await
    }
    async fn list_circuits(
        &self,
        tenant: TenantId,
        after: Option<(Guarded, String)>,
        limit: u32,
    ) -> Read<Vec<(CircuitKey, Circuit)>> {
        self.inner().await.list_circuits(tenant, after, limit).await
    }
    async fn count_open_circuits(&self) -> Read<u64> {
        self.inner().await.count_open_circuits().await
    }
}

#[async_trait]
impl RateLimits for SlowStore {
    async fn take_turn(&self, key: LimitKey, limit: RateLimit) -> Read<Turn> {
        self.inner().await.take_turn(key, limit).await
    }
    async fn list_rate_limits(
        &self,
        tenant: TenantId,
        after: Option<(Limited, String)>,
        limit: u32,
    ) -> Read<Vec<(LimitKey, LimitState)>> {
        self.inner().await.list_rate_limits(tenant, after, limit).await
    }
    async fn reset_rate_limit(&self, key: LimitKey) -> Read<bool> {
        self.inner().await.reset_rate_limit(key).await
    }
}

#[async_trait]
impl Callees for SlowStore {
    async fn put_callee(&self, new: NewCallee) -> Write<PutCallee> {
        self.inner().await.put_callee(new).await
    }
    async fn get_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
    ) -> Read<Option<(CalleeRow, String)>> {
        self.inner().await.get_callee(tenant, kind, name).await
    }
    async fn list_callees(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        after: Option<&str>,
        limit: u32,
    ) -> Read<Vec<CalleeRow>> {
        self.inner().await.list_callees(tenant, kind, after, limit).await
    }
    async fn delete_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
        revision: Option<u32>,
    ) -> Write<bool> {
        self.inner().await.delete_callee(tenant, kind, name, revision).await
    }
}

#[async_trait]
impl Workflows for SlowStore {
    async fn put_workflow(&self, new: NewWorkflow) -> Write<PutWorkflow> {
        self.inner().await.put_workflow(new).await
    }
    async fn get_workflow(&self, tenant: TenantId, name: &str) -> Read<Option<WorkflowRow>> {
        self.inner().await.get_workflow(tenant, name).await
    }
    async fn list_workflows(
        &self,
        tenant: TenantId,
        filter: &WorkflowFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Read<Vec<WorkflowRow>> {
        self.inner().await.list_workflows(tenant, filter, after, limit).await
    }
    async fn delete_workflow(&self, tenant: TenantId, name: &str, revision: Option<u32>) -> Write<bool> {
        self.inner().await.delete_workflow(tenant, name, revision).await
    }
    async fn list_versions(
        &self,
        tenant: TenantId,
        name: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Read<Option<Vec<VersionRow>>> {
        self.inner().await.list_versions(tenant, name, before, limit).await
    }
    async fn get_version(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<u32>,
    ) -> Read<Option<VersionRow>> {
        self.inner().await.get_version(tenant, name, version).await
    }
    async fn get_definition(&self, id: VersionId) -> Read<Option<VersionRow>> {
        self.inner().await.get_definition(id).await
    }
    async fn put_inline(&self, tenant: TenantId, definition: Definition) -> Read<VersionId> {
        self.inner().await.put_inline(tenant, definition).await
    }
}

#[async_trait]
impl Sessions for SlowStore {
    async fn renew_session(&self, session: SessionId, ttl: Duration) -> Read<Timestamp> {
        self.inner().await.renew_session(session, ttl).await
    }
    async fn close_session(&self, session: SessionId) -> Read<()> {
        self.inner().await.close_session(session).await
    }
    async fn now(&self) -> Read<Timestamp> {
        self.inner().await.now().await
    }
    async fn find_reply(&self, tenant: TenantId, key: &IdempotencyKey) -> Read<Option<Reply>> {
        self.inner().await.find_reply(tenant, key).await
    }
    async fn clean_up(&self, age: Duration, limit: u32) -> Read<u64> {
        self.inner().await.clean_up(age, limit).await
    }
}

#[async_trait]
impl Outbox for SlowStore {
    async fn read_outbox(&self, limit: u32) -> Read<Vec<OutboxRow>> {
        self.inner().await.read_outbox(limit).await
    }
    async fn settle_outbox(&self, settlements: Vec<OutboxSettlement>) -> Read<()> {
        self.inner().await.settle_outbox(settlements).await
    }
}

#[async_trait]
impl Blobs for SlowStore {
    async fn get_blob(&self, tenant: TenantId, digest: &Digest) -> Read<Option<Vec<u8>>> {
        self.inner().await.get_blob(tenant, digest).await
    }
}

#[async_trait]
impl Integrity for SlowStore {
    async fn scan_runs(&self, after: Option<RunId>, limit: u32) -> Read<Vec<(TenantId, RunId)>> {
        self.inner().await.scan_runs(after, limit).await
    }
    async fn find_damage(&self, limit: u32) -> Read<Vec<Damage>> {
        self.inner().await.find_damage(limit).await
    }
    async fn mend(&self, mend: Mend, account: Account) -> Result<(), WriteError> {
        self.inner().await.mend(mend, account).await
    }
    async fn rebuild_run(&self, rebuild: Rebuild, accounts: Vec<Account>) -> Result<(), WriteError> {
        self.inner().await.rebuild_run(rebuild, accounts).await
    }
    async fn list_repairs(&self, limit: u32) -> Read<Vec<RepairRow>> {
        self.inner().await.list_repairs(limit).await
    }
}
