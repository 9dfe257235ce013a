//! Runs: created, written by door and engine, claimed, listed.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use windlass_model::concurrency::{OnConflict, PLACES_MAX};
use windlass_model::event::EngineTaken;
use windlass_model::{
    Epoch, Event, EventSeq, Ring, RunId, RunStatus, RunVersion, SessionId, TenantId, Timestamp, planted,
};

use super::MemoryStore;
use super::tables::{Log, Run, Tables, refused, wants_engine};
use crate::stored::{StoredSnapshot, contains_ignoring_case};
use crate::{
    ApprovalCursor, ApprovalFilter, ApprovalRow, Due, DueRun, EndedChild, FREED_GROUPS_MAX, Fence, Guard,
    NewRun, OutboxRow, Pin, Projection, RunCounts, RunFilter, RunRecord, RunRow, RunWrite, Runs, StoreError,
    WriteError, occupant,
};

#[async_trait]
impl Runs for MemoryStore {
    async fn create_run(&self, run: NewRun) -> Result<(), WriteError> {
        self.write(|tables, now| create(tables, run, now))
    }

    async fn write_run(&self, write: RunWrite) -> Result<(), WriteError> {
        self.faults.before_append()?;
        self.write(|tables, now| append(tables, write, now))
    }

    async fn claim_run(
        &self,
        run_id: RunId,
        session: SessionId,
        stale_after: Duration,
    ) -> Result<Option<RunRecord>, StoreError> {
        self.write_always(|tables, now| claim(tables, run_id, session, stale_after, now))
    }

    async fn touch_run(&self, run_id: RunId, fence: Fence) -> Result<bool, StoreError> {
        self.write_always(|tables, now| {
            let Some(run) = tables.runs.get_mut(&run_id).filter(|run| is_held(&run.row, fence)) else {
                return Ok(false);
            };
            run.row.last_activity_at = now;
            Ok(true)
        })
    }

    async fn get_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.read(|tables, _| Ok(tables.run(tenant, run_id).map(|run| run.row.clone())))
    }

    async fn load_run(&self, tenant: TenantId, run_id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.read(|tables, _| tables.run(tenant, run_id).map(record).transpose())
    }

    async fn list_runs(
        &self,
        tenant: TenantId,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.read(|tables, _| {
            let rows = tables.runs.values().rev().map(|run| &run.row);
            let page = rows
                .filter(|row| row.tenant == tenant && before.is_none_or(|before| row.id < before))
                .filter(|row| matches(filter, row));
            Ok(page.take(limit as usize).cloned().collect())
        })
    }

    async fn read_events(
        &self,
        tenant: TenantId,
        run_id: RunId,
        after: EventSeq,
        limit: u32,
    ) -> Result<Option<Vec<Event>>, StoreError> {
        self.read(|tables, _| {
            let Some(run) = tables.run(tenant, run_id) else { return Ok(None) };
            let tail = run.log.events.iter().filter(|event| event.seq > after).take(limit as usize);
            tail.map(|event| event.clone().read()).collect::<Result<Vec<_>, _>>().map(Some)
        })
    }

    async fn list_approvals(
        &self,
        tenant: TenantId,
        filter: &ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: u32,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        self.read(|tables, _| {
            let position = |row: &ApprovalRow| (row.requested_at, row.run_id, row.seq);
            let after = after.map(|cursor| (cursor.requested_at, cursor.run_id, cursor.seq));
            let mut rows: Vec<_> = tables
                .runs
                .values()
                .filter(|run| run.row.tenant == tenant || planted("inbox_shared_by_tenants"))
                .filter(|run| filter.run_id.is_none_or(|id| id == run.row.id))
                .flat_map(|run| &run.approvals)
                .filter(|row| filter.decided.is_none_or(|decided| decided == row.decided_at.is_some()))
                .filter(|row| after.is_none_or(|after| position(row) > after))
                .cloned()
                .collect();
            rows.sort_by_key(position);
            rows.truncate(limit as usize);
            Ok(rows)
        })
    }

    async fn find_due(
        &self,
        session: SessionId,
        horizon: Duration,
        stale_after: Duration,
        limit: u32,
    ) -> Result<Due, StoreError> {
        self.read(|tables, now| {
            let mut due: Vec<_> = tables
                .runs
                .values()
                .filter_map(|run| {
                    let after = tables.claimable_after(&run.row, now, stale_after)?;
                    (after <= horizon).then_some(DueRun { ring: run.row.ring(), after })
                })
                .collect();
            due.sort_by_key(|due| (due.after, due.ring.priority, due.ring.run_id));
            let mut turns: BTreeMap<_, u32> = BTreeMap::new();
            due.sort_by_cached_key(|due| {
                let Ring { priority, tenant, run_id } = due.ring;
                let turn = turns.entry((due.after, priority, tenant)).or_default();
                *turn += 1;
                (due.after, priority, *turn, run_id)
            });
            due.truncate(limit as usize);
            let held = tables.runs.values().filter(|run| run.row.lease_owner == Some(session));
            let moved =
                held.filter(|run| run.attention || tables.ended_children(run.row.id).next().is_some());
            Ok(Due {
                runs: due,
                moved: moved.map(|run| run.row.ring()).collect(),
                groups: tables.freed_groups(FREED_GROUPS_MAX),
                has_schedules: tables.due_schedules(now).next().is_some(),
            })
        })
    }

    async fn find_ended_children(
        &self,
        tenant: TenantId,
        parent: RunId,
        limit: u32,
    ) -> Result<Vec<EndedChild>, StoreError> {
        self.read(|tables, _| {
            let children = tables.ended_children(parent).filter(|child| child.row.tenant == tenant);
            let ended = children.take(limit as usize).filter_map(|child| {
                let last = child.log.events.last()?;
                Some(last.clone().read().and_then(|last| EndedChild::read(child.row.id, last)))
            });
            ended.collect()
        })
    }

    async fn count_runs(&self) -> Result<RunCounts, StoreError> {
        self.read(|tables, now| {
            let mut counts = RunCounts::default();
            for row in tables.runs.values().map(|run| &run.row) {
                *counts.by_status.entry(row.status).or_default() += 1;
                if let Some(since) = claimable_since(tables, row, now) {
                    let age = since.until(now);
                    counts.oldest_claimable =
                        Some(counts.oldest_claimable.map_or(age, |oldest| oldest.max(age)));
                }
            }
            Ok(counts)
        })
    }

    async fn count_open_runs(&self, tenant: TenantId, limit: u32) -> Result<u64, StoreError> {
        self.read(|tables, _| {
            let rows = tables.runs.values().map(|run| &run.row).filter(|row| row.tenant == tenant);
            let counts = |row: &&RunRow| !row.status.is_terminal() || planted("ended_runs_keep_their_places");
            Ok(rows.filter(counts).take(limit as usize).count() as u64)
        })
    }
}

fn create(tables: &mut Tables, run: NewRun, now: Timestamp) -> Result<(), WriteError> {
    tables.check_key(run.tenant, run.remember.as_ref())?;
    let version = tables.versions.get(&run.version_id).filter(|version| version.tenant == run.tenant);
    let published = version.filter(|version| version.row.version.is_some());
    let workflow = published.and_then(|version| tables.visible(run.tenant, &version.row.name));
    let version = match (version, workflow, run.pin) {
        (Some(version), _, Pin::Inline) => version,
        (Some(version), Some(workflow), pin)
            if pin == Pin::Version
                || version.row.version == Some(workflow.latest_version)
                || planted("stale_definition_is_pinned") =>
        {
            version
        }
        (None, _, Pin::Inline) => {
            return Err(refused(format!("there is no definition {}", run.version_id)).into());
        }
        (_, _, Pin::Version | Pin::Latest) => return Err(WriteError::Moved),
    };
    if tables.runs.contains_key(&run.id) {
        return Err(refused(format!("there is a run {} already", run.id)).into());
    }
    if let Some(group) = run.group.as_ref().filter(|group| group.on_conflict == OnConflict::Reject)
        && let Some(by) = occupant(&tables.members(run.tenant, &group.name, PLACES_MAX), group.max)
        && run.parent.is_none()
    {
        return Err(WriteError::Occupied { by });
    }
    if let Some(firing) = &run.firing {
        tables.may_fire(firing)?;
    }
    let mut log = Log::default();
    log.check(std::slice::from_ref(&run.event))?;
    log.append(std::slice::from_ref(&run.event));
    let Projection { status, paused_reason, wake_at, started_at, ended_at, error } = run.projection;
    let row = RunRow {
        id: run.id,
        tenant: run.tenant,
        version_id: run.version_id,
        workflow: version.row.name.clone(),
        workflow_version: version.row.version,
        status,
        paused_reason,
        version: RunVersion(1),
        next_seq: run.event.seq.next(),
        wake_at,
        last_activity_at: now,
        lease_owner: None,
        epoch: Epoch::default(),
        parent: run.parent,
        priority: run.priority,
        labels: run.labels,
        created_at: run.event.at,
        started_at,
        ended_at,
        error,
    };
    tables.runs.insert(
        run.id,
        Run { row, attention: false, parent_told: false, log, snapshot: None, approvals: Vec::new() },
    );
    if let Some(firing) = &run.firing {
        tables.fire(firing, Some(run.id));
    }
    if let Some(group) = run.group {
        tables.join(run.tenant, run.id, run.priority, group);
    }
    tables.keep_blobs(run.tenant, run.blobs);
    tables.remember(run.tenant, run.remember, now);
    Ok(())
}

/// All of them, or none.
fn create_children(tables: &mut Tables, children: &[NewRun], now: Timestamp) -> Result<(), WriteError> {
    for (at, child) in children.iter().enumerate() {
        if let Err(error) = create(tables, child.clone(), now) {
            children[..at].iter().for_each(|child| drop(tables.runs.remove(&child.id)));
            return Err(error);
        }
    }
    Ok(())
}

fn append(tables: &mut Tables, write: RunWrite, now: Timestamp) -> Result<(), WriteError> {
    tables.check_key(write.tenant, write.remember.as_ref())?;
    let children_first = planted("child_written_without_its_event");
    if children_first {
        create_children(tables, &write.children, now)?;
    }
    let run = tables.runs.get_mut(&write.run_id).filter(|run| run.row.tenant == write.tenant);
    let run = match (run, write.guard) {
        (Some(run), Guard::Engine(fence)) if is_held(&run.row, fence) => run,
        (_, Guard::Engine(_)) => return Err(WriteError::Fenced),
        (Some(run), Guard::Door) if !run.row.status.is_terminal() => run,
        (_, Guard::Door) => return Err(WriteError::Moved),
    };
    if run.row.version != write.version && !planted("version_ignored") {
        return Err(WriteError::Moved);
    }
    run.log.check(&write.events)?;
    // Before anything of this run is written: what follows cannot fail any more.
    if !children_first {
        create_children(tables, &write.children, now)?;
    }
    let run = tables.runs.get_mut(&write.run_id).expect("it was found a moment ago");
    let (by_engine, ends) = (write.guard != Guard::Door, write.projection.status.is_terminal());
    run.log.append(&write.events);
    run.row.version = RunVersion(run.row.version.0 + 1);
    run.row.next_seq = EventSeq(run.row.next_seq.0 + write.events.len() as u32);
    run.row.last_activity_at = now;
    if ends || (by_engine && write.release) {
        run.row.lease_owner = None;
    }
    run.attention = !by_engine && run.row.lease_owner.is_some();
    if by_engine || !planted("door_leaves_the_row") {
        project(&mut run.row, write.projection);
    }
    if let Some(state) = &write.snapshot {
        run.snapshot = Some(StoredSnapshot::from(&**state));
    }
    run.change_approvals(write.approvals, &write.events, now);
    for child in write.finished {
        if let Some(child) = tables.runs.get_mut(&child) {
            child.parent_told = !planted("childs_end_stays_news");
        }
    }
    if write.leaves_group {
        tables.leave(write.run_id);
    }
    for message in write.outbox {
        tables.last_outbox_id += 1;
        let id = tables.last_outbox_id;
        let row = OutboxRow {
            id,
            tenant: write.tenant,
            run_id: write.run_id,
            message,
            created_at: now,
            attempts: 0,
        };
        tables.outbox.insert(id, super::tables::OutboxEntry { row, due_at: now, dead: None });
    }
    tables.keep_blobs(write.tenant, write.blobs);
    tables.remember(write.tenant, write.remember, now);
    Ok(())
}

fn claim(
    tables: &mut Tables,
    run_id: RunId,
    session: SessionId,
    stale_after: Duration,
    now: Timestamp,
) -> Result<Option<RunRecord>, StoreError> {
    let is_claimable =
        |run: &&Run| tables.claimable_after(&run.row, now, stale_after).is_some_and(|after| after.is_zero());
    if tables.runs.get(&run_id).filter(is_claimable).is_none() {
        return Ok(None);
    }
    let newest = planted("newest_definition_is_run").then(|| tables.newest_version(run_id)).flatten();
    let run = tables.runs.get_mut(&run_id).expect("it was found a moment ago");
    let row = &mut run.row;
    row.version_id = newest.unwrap_or(row.version_id);
    row.lease_owner = Some(session);
    row.epoch = Epoch(row.epoch.0 + u32::from(!planted("epoch_not_raised")));
    row.version = RunVersion(row.version.0 + 1);
    row.last_activity_at = now;
    row.started_at.get_or_insert(now);
    if matches!(row.status, RunStatus::Queued | RunStatus::Waiting) {
        row.status = RunStatus::Running;
    }
    run.attention = false;
    run.log.append(&[Event {
        seq: row.next_seq,
        at: now,
        node: None,
        item: None,
        attempt: None,
        epoch: Some(row.epoch),
        actor: None,
        body: EngineTaken { session }.into(),
    }]);
    row.next_seq = row.next_seq.next();
    record(run).map(Some)
}

fn record(run: &Run) -> Result<RunRecord, StoreError> {
    let snapshot = run.snapshot.as_ref().and_then(StoredSnapshot::read);
    let after =
        snapshot.as_ref().map_or(0, |state| state.last_seq.0 + u32::from(planted("snapshot_skips_an_event")));
    Ok(RunRecord { row: run.row.clone(), events: run.log.read(after)?, snapshot })
}

fn project(row: &mut RunRow, projection: Projection) {
    let Projection { status, paused_reason, wake_at, started_at, ended_at, error } = projection;
    row.status = status;
    row.paused_reason = paused_reason;
    row.wake_at = wake_at;
    row.started_at = started_at;
    row.ended_at = ended_at;
    row.error = error;
}

fn is_held(row: &RunRow, fence: Fence) -> bool {
    let is_theirs = row.lease_owner == Some(fence.session) && row.epoch == fence.epoch;
    (is_theirs || planted("fence_ignored")) && !row.status.is_terminal()
}

fn matches(filter: &RunFilter, row: &RunRow) -> bool {
    let RunFilter { statuses, workflow, parent, labels, created_after, created_before, text } = filter;
    (statuses.is_empty() || statuses.contains(&row.status))
        && workflow.as_ref().is_none_or(|workflow| *workflow == row.workflow)
        && parent.is_none_or(|parent| row.parent == Some(parent))
        && labels.iter().all(|(key, value)| row.labels.get(key) == Some(value))
        && created_after.is_none_or(|after| row.created_at > after)
        && created_before.is_none_or(|before| row.created_at < before)
        && text.as_ref().is_none_or(|text| mentions(row, text))
}

fn mentions(row: &RunRow, text: &str) -> bool {
    contains_ignoring_case(&row.workflow, text)
        || contains_ignoring_case(&row.id.to_string(), text)
        || row.error.as_ref().is_some_and(|error| contains_ignoring_case(error, text))
        || row.labels.values().any(|value| contains_ignoring_case(value, text))
}

/// Since when an engine could have taken this run.
fn claimable_since(tables: &Tables, row: &RunRow, now: Timestamp) -> Option<Timestamp> {
    match row.lease_owner {
        _ if row.status.is_terminal() => None,
        None if wants_engine(row.status) => Some(row.last_activity_at),
        None => tables.due_since(row, now),
        Some(owner) if tables.is_alive(owner, now) => None,
        Some(owner) => {
            Some(tables.sessions.get(&owner).map_or(row.last_activity_at, |expired_at| *expired_at))
        }
    }
}
