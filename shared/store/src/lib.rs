//! The port to the database: what the engine and the door ask of a store, in their own words.
//!
//! Every method is one transaction. A store groups concurrent writes into one commit by itself, so
//! callers write one thing at a time and never wait for a batch to fill. Dropping a future never
//! leaves a write half done: it happens as a whole, or not at all.
//!
//! All times that decide about leases and timers are compared by the database's own clock.

mod callees;
mod clock;
pub mod conformance;
mod damage;
mod due;
mod ended_child;
mod groups;
mod inbox;
pub mod memory;
mod new_run;
mod plans;
mod point;
mod quota;
mod schedules;
pub mod stored;
mod values;

use std::time::Duration;

use async_trait::async_trait;
use windlass_model::callee::CalleeKind;
use windlass_model::circuit::{Admission, Circuit, CircuitKey, CircuitStep, Guarded};
use windlass_model::concurrency::Member;
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, RateLimit, Turn};
use windlass_model::{Digest, EventSeq, RunId, SessionId, TenantId, Timestamp, VersionId};

pub use callees::{CalleeRow, NewCallee, PutCallee};
pub use clock::Clock;
pub use damage::{Account, Damage, Mend, Rebuild, RepairRow};
pub use due::{Due, DueRun, FREED_GROUPS_MAX, RunCounts};
pub use ended_child::EndedChild;
pub use groups::{Admissions, Admitted, MEMBERS_MAX, Newcomer, occupant, place_taken};
pub use inbox::inbox_of;
pub use new_run::{NewRun, Pin};
pub use plans::{PlanError, Plans};
pub use point::point;
pub use quota::{COUNT_TRUSTED, Place, Quota, QuotaError};
pub use schedules::{Firing, NewSchedule, ScheduleRow};
pub use values::*;

/// Everything a Windlass process needs from a database.
pub trait Store:
    Runs
    + Groups
    + Schedules
    + Workflows
    + Callees
    + Circuits
    + RateLimits
    + Sessions
    + Outbox
    + Blobs
    + Integrity
{
}

impl<
    T: Runs
        + Groups
        + Schedules
        + Workflows
        + Callees
        + Circuits
        + RateLimits
        + Sessions
        + Outbox
        + Blobs
        + Integrity,
> Store for T
{
}

#[async_trait]
pub trait Runs: Send + Sync + 'static {
    /// Writes a run and its first events.
    ///
    /// # Errors
    /// [`WriteError::KeyTaken`] when the idempotency key was used before, [`WriteError::Moved`] when the definition is
    /// not what it was pinned as any more, or its schedule does not wait for this time any more, [`WriteError::Occupied`] when its group is full and it will not wait; nothing
    /// was written.
    async fn create_run(&self, run: NewRun) -> Result<(), WriteError>;

    /// Appends events to a run and brings its row up to date, if the guard holds. Children that steps start with it are
    /// written as by [`Self::create_run`], or not at all.
    ///
    /// A used key is told before a guard that does not hold: who asks twice learns of his first answer. The end
    /// of a run lets it go, whether the write says so or not; a command on a held run leaves it with its holder.
    ///
    /// # Errors
    /// [`WriteError::Moved`], [`WriteError::Fenced`] or [`WriteError::KeyTaken`]; nothing was written.
    async fn write_run(&self, write: RunWrite) -> Result<(), WriteError>;

    /// Takes a run for an engine: lease owner, epoch + 1, event `run.engine_taken`.
    ///
    /// None when there is nothing to take: the run has ended, waits for nothing that is due, or is
    /// held by a living session whose run was active within `stale_after`.
    async fn claim_run(
        &self,
        run_id: RunId,
        session: SessionId,
        stale_after: Duration,
    ) -> Result<Option<RunRecord>, StoreError>;

    /// Tells that a held run is alive although it writes nothing. False when the lease is lost.
    async fn touch_run(&self, run_id: RunId, fence: Fence) -> Result<bool, StoreError>;

    async fn get_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRow>, StoreError>;

    /// The row, the newest snapshot, and all events after it, read at one moment.
    async fn load_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// Newest first.
    async fn list_runs(
        &self,
        tenant: TenantId,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError>;

    /// Events with a seq above `after`, in order. None when there is no such run.
    async fn read_events(
        &self,
        tenant: TenantId,
        run_id: RunId,
        after: EventSeq,
        limit: u32,
    ) -> Result<Option<Vec<windlass_model::Event>>, StoreError>;

    /// Gates, oldest request first.
    async fn list_approvals(
        &self,
        tenant: TenantId,
        filter: &ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: u32,
    ) -> Result<Vec<ApprovalRow>, StoreError>;

    /// What somebody should see to: what this session holds and has moved, groups, schedules, and at most `limit` runs
    /// that an engine should take, now or within `horizon`: queued, due, with a child whose end they have not taken in,
    /// of a dead session, or silent for `stale_after`. What is due comes first, by priority; of one priority each tenant's
    /// oldest run, then each one's second, and so on. What is not yet due follows by its time.
    async fn find_due(
        &self,
        session: SessionId,
        horizon: Duration,
        stale_after: Duration,
        limit: u32,
    ) -> Result<Due, StoreError>;

    /// Children of this run that have ended, and whose end it has not taken in, in the order of their ids.
    async fn find_ended_children(
        &self,
        tenant: TenantId,
        parent: RunId,
        limit: u32,
    ) -> Result<Vec<EndedChild>, StoreError>;

    /// How many runs stand where, over all tenants, and since when the oldest claimable one waits.
    async fn count_runs(&self) -> Result<RunCounts, StoreError>;

    /// How many runs of this tenant have not ended, children among them; no further than to `limit`.
    async fn count_open_runs(&self, tenant: TenantId, limit: u32) -> Result<u64, StoreError>;
}

/// Concurrency groups: whose turn it is. A run without one never comes here.
#[async_trait]
pub trait Groups: Send + Sync + 'static {
    /// Gives the free places of a group to those who wait for one, and writes `run.place_taken` to their logs: by priority,
    /// of one priority to the oldest first. A newcomer asks from now on, unless it did before.
    ///
    /// A place is free again with the write that ends its run.
    async fn admit_runs(
        &self,
        tenant: TenantId,
        group: &str,
        newcomer: Option<Newcomer>,
    ) -> Result<Admissions, StoreError>;

    /// Who is in a group: those who have a place, then those who wait, as their turn comes.
    async fn list_group(&self, tenant: TenantId, group: &str, limit: u32) -> Result<Vec<Member>, StoreError>;
}

/// Schedules: what starts by itself, and when.
#[async_trait]
pub trait Schedules: Send + Sync + 'static {
    /// Writes a schedule under its name. True when there was none.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when the precondition does not hold; [`WriteError::KeyTaken`].
    async fn put_schedule(&self, new: NewSchedule) -> Result<(ScheduleRow, bool), WriteError>;

    async fn get_schedule(&self, tenant: TenantId, name: &str) -> Result<Option<ScheduleRow>, StoreError>;

    /// By name.
    async fn list_schedules(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError>;

    /// False when there is none.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when `revision` is given and no longer the current one.
    async fn delete_schedule(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError>;

    /// Those whose time has come, over all tenants, the longest overdue first.
    async fn find_due_schedules(&self, limit: u32) -> Result<Vec<ScheduleRow>, StoreError>;

    /// A time comes without a run. With one it is written by [`Runs::create_run`].
    ///
    /// # Errors
    /// [`WriteError::Moved`] when the schedule does not wait for this time any more; nothing was written.
    async fn fire_schedule(&self, firing: Firing) -> Result<(), WriteError>;
}

#[async_trait]
pub trait Workflows: Send + Sync + 'static {
    /// Publishes a definition under its name.
    ///
    /// The same content as the latest version makes no new version; tags are replaced either way.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when the precondition does not hold; [`WriteError::KeyTaken`].
    async fn put_workflow(&self, new: NewWorkflow) -> Result<PutWorkflow, WriteError>;

    async fn get_workflow(&self, tenant: TenantId, name: &str) -> Result<Option<WorkflowRow>, StoreError>;

    /// By name.
    async fn list_workflows(
        &self,
        tenant: TenantId,
        filter: &WorkflowFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<WorkflowRow>, StoreError>;

    /// Hides a workflow. Its versions stay for the runs that are pinned to them; published again under the same
    /// name, it goes on with the next version and revision.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when `revision` is given and no longer the current one.
    async fn delete_workflow(
        &self,
        tenant: TenantId,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError>;

    /// Newest first.
    async fn list_versions(
        &self,
        tenant: TenantId,
        name: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Option<Vec<VersionRow>>, StoreError>;

    /// One version, or the latest.
    async fn get_version(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<VersionRow>, StoreError>;

    /// The definition that a run is pinned to.
    async fn get_definition(&self, id: VersionId) -> Result<Option<VersionRow>, StoreError>;

    /// Stores a definition that belongs to no workflow; the same content is stored once.
    async fn put_inline(&self, tenant: TenantId, definition: Definition) -> Result<VersionId, StoreError>;
}

/// The tools and agents that are registered. Definitions bring along those that they call, so no run reads here.
#[async_trait]
pub trait Callees: Send + Sync + 'static {
    /// Registers a tool or an agent under its name, or changes it. What is registered like this already stays as it is.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when the precondition does not hold; [`WriteError::KeyTaken`].
    async fn put_callee(&self, new: NewCallee) -> Result<PutCallee, WriteError>;

    /// One with its definition.
    async fn get_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
    ) -> Result<Option<(CalleeRow, String)>, StoreError>;

    /// By name.
    async fn list_callees(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CalleeRow>, StoreError>;

    /// Takes one off the list; definitions that have brought it along keep it. False when there is none.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when `revision` is given and no longer the current one.
    async fn delete_callee(
        &self,
        tenant: TenantId,
        kind: CalleeKind,
        name: &str,
        revision: Option<u32>,
    ) -> Result<bool, WriteError>;
}

/// Circuit breakers, where all workers see them. Only calls of what has one come here.
#[async_trait]
pub trait Circuits: Send + Sync + 'static {
    /// Whether a call may be made, as far as that is known without a write; nothing is said about who tries.
    async fn look_at_circuit(&self, key: &CircuitKey) -> Result<Admission, StoreError>;

    /// Takes one step, by the database's clock. Of many who ask to try, one may.
    async fn step_circuit(&self, key: CircuitKey, step: CircuitStep) -> Result<Admission, StoreError>;

    /// Those that anything is known of, by kind and name.
    async fn list_circuits(
        &self,
        tenant: TenantId,
        after: Option<(Guarded, String)>,
        limit: u32,
    ) -> Result<Vec<(CircuitKey, Circuit)>, StoreError>;

    /// How many refuse calls, over all tenants.
    async fn count_open_circuits(&self) -> Result<u64, StoreError>;
}

/// Rate limits, where all workers see them. Only what has one comes here.
#[async_trait]
pub trait RateLimits: Send + Sync + 'static {
    /// Takes the next turn of a limit, by the database's clock. Each is given once; one that nobody comes to is lost.
    async fn take_turn(&self, key: LimitKey, limit: RateLimit) -> Result<Turn, StoreError>;

    /// Those that turns were taken of, by kind and name.
    async fn list_rate_limits(
        &self,
        tenant: TenantId,
        after: Option<(Limited, String)>,
        limit: u32,
    ) -> Result<Vec<(LimitKey, LimitState)>, StoreError>;

    /// Forgets which turns were taken: those who ask from now on need not come after them. False when there is no such limit.
    async fn reset_rate_limit(&self, key: LimitKey) -> Result<bool, StoreError>;
}

#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Registers or renews a worker session for `ttl` from now. Returns the database's time.
    async fn renew_session(&self, session: SessionId, ttl: Duration) -> Result<Timestamp, StoreError>;

    /// Ends a session; its runs are claimable at once.
    async fn close_session(&self, session: SessionId) -> Result<(), StoreError>;

    /// Returns when the store has seen that another process died, whose runs are claimable from then on. A store that
    /// cannot see it never returns: their sessions end by themselves.
    async fn death(&self) {
        std::future::pending().await
    }

    /// The database's time. Also the cheapest proof that it answers.
    async fn now(&self) -> Result<Timestamp, StoreError>;

    /// What was answered to this key before, if anything.
    async fn find_reply(&self, tenant: TenantId, key: &IdempotencyKey) -> Result<Option<Reply>, StoreError>;

    /// Forgets replies older than `age`, circuits and rate limits that have been as if nothing were known of them for as
    /// long, and dead sessions without runs; at most `limit` rows of each.
    async fn clean_up(&self, age: Duration, limit: u32) -> Result<u64, StoreError>;
}

#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Messages that are due, oldest first. They stay until they are settled.
    async fn read_outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError>;

    /// As [`Self::read_outbox`], for whoever delivers them: what is given to one process is given to no other for
    /// as long as `lease`. A store that belongs to one process has nobody to keep away.
    async fn take_outbox(&self, limit: u32, lease: Duration) -> Result<Vec<OutboxRow>, StoreError> {
        let _ = lease;
        self.read_outbox(limit).await
    }

    /// Removes delivered messages, puts failed ones off, and marks as dead what failed too often.
    async fn settle_outbox(&self, settlements: Vec<OutboxSettlement>) -> Result<(), StoreError>;
}

#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    async fn get_blob(&self, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;
}

/// What `windlass doctor` asks and does, over all tenants.
#[async_trait]
pub trait Integrity: Send + Sync + 'static {
    /// Runs by id, for a walk over everything. Says no more of a run than that it is there.
    async fn scan_runs(&self, after: Option<RunId>, limit: u32)
    -> Result<Vec<(TenantId, RunId)>, StoreError>;

    /// Damage that the database can see by itself: gaps, dangling references, orphans, a stuck outbox.
    async fn find_damage(&self, limit: u32) -> Result<Vec<Damage>, StoreError>;

    /// Does one repair, and keeps its account.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when it is no longer as it was found; nothing was changed.
    async fn mend(&self, mend: Mend, account: Account) -> Result<(), WriteError>;

    /// Writes everything anew that is derived from a run's log, forgets its fold, and keeps one account for each
    /// thing that was found.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when the row is no longer at that version; nothing was changed.
    async fn rebuild_run(&self, rebuild: Rebuild, accounts: Vec<Account>) -> Result<(), WriteError>;

    /// What was repaired, newest first.
    async fn list_repairs(&self, limit: u32) -> Result<Vec<RepairRow>, StoreError>;
}
