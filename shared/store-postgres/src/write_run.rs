//! The hot path: appends to runs, by their engines and by the door, a group in one statement.

use std::collections::{HashMap, HashSet};

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};
use uuid::Uuid;
use windlass_model::{SessionId, TenantId};
use windlass_store::stored::{StoredEvent, StoredSnapshot};
use windlass_store::{
    ApprovalChange, ApprovalDecision, Fence, Guard, Remember, RunWrite, StoreError, WriteError, point,
};

use crate::create_run::Create;
use crate::fault::Fault;
use crate::lane::{Answers, Kind};
use crate::rows::NO_ITEM;
use crate::types::{At, int4};
use crate::{query, replies, write_run_extras};

/// A write whose JSON has been rendered before it reaches the lane.
pub(crate) struct Append {
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) snapshot: Option<StoredSnapshot>,
    pub(crate) children: Vec<Create>,
    pub(crate) write: RunWrite,
}

impl Append {
    /// # Errors
    /// When the events do not follow one another; that they follow the log is the update's condition. When the first
    /// event of a child is not the first of a log.
    pub(crate) fn new(mut write: RunWrite) -> Result<Self, StoreError> {
        let events: Vec<_> = std::mem::take(&mut write.events).iter().map(StoredEvent::from).collect();
        if let Some(pair) = events.windows(2).find(|pair| pair[1].seq != pair[0].seq.next()) {
            return Err(refused(format!("event {} follows event {}", pair[1].seq, pair[0].seq)));
        }
        let snapshot = write.snapshot.take().map(|state| StoredSnapshot::from(&*state));
        let children = std::mem::take(&mut write.children).into_iter().map(Create::new);
        Ok(Self { events, snapshot, children: children.collect::<Result<_, _>>()?, write })
    }

    fn fence(&self) -> Option<Fence> {
        match self.write.guard {
            Guard::Door => None,
            Guard::Engine(fence) => Some(fence),
        }
    }

    fn first_seq(&self) -> Option<i32> {
        self.events.first().map(|event| int4(event.seq.0))
    }

    fn lets_go(&self) -> bool {
        self.write.projection.status.is_terminal() || (self.fence().is_some() && self.write.release)
    }

    /// Whether the one statement does not write all of it.
    fn has_extras(&self) -> bool {
        let Self { snapshot, children, write, .. } = self;
        snapshot.is_some()
            || !children.is_empty()
            || !write.finished.is_empty()
            || write.leaves_group
            || write.remember.is_some()
            || !write.blobs.is_empty()
            || !write.outbox.is_empty()
            || !(write.approvals.is_empty() || self.closing().is_some())
    }

    /// The change of the inbox that the one statement makes: where there is but one, and it opens no gate.
    pub(crate) fn closing(&self) -> Option<&ApprovalChange> {
        match &*self.write.approvals {
            [change @ (ApprovalChange::Closed { .. } | ApprovalChange::ClosedAll)] => Some(change),
            _ => None,
        }
    }

    fn key_id(&self) -> Option<Uuid> {
        self.write.remember.as_ref().map(|remember| replies::key_id(self.write.tenant, &remember.key))
    }
}

pub(crate) fn refused(problem: String) -> StoreError {
    StoreError::Refused(problem.into())
}

/// The lane of all writes to runs that exist.
pub(crate) struct Writes;

impl Kind for Writes {
    type Item = Append;
    type Answer = ();

    fn commit<'c>(
        db: &'c mut PgConnection,
        appends: &'c [Append],
    ) -> BoxFuture<'c, Result<Answers<()>, Fault>> {
        Box::pin(async move {
            let in_order = in_order_of_runs(appends);
            let mut answers: Vec<_> = appends.iter().map(|_| Ok(())).collect();
            if in_order.iter().any(|at| appends[*at].has_extras()) {
                commit_with_extras(db, appends, in_order, &mut answers).await?;
            } else {
                let written = update(db, appends, &in_order).await?;
                let missed = in_order.into_iter().filter(|at| !written.contains(at)).collect();
                explain(db, appends, missed, &mut answers).await?;
            }
            Ok(answers)
        })
    }
}

/// All groups lock rows in this order, so that two of them never wait for each other.
fn in_order_of_runs(appends: &[Append]) -> Vec<usize> {
    let mut order: Vec<_> = (0..appends.len()).collect();
    order.sort_unstable_by_key(|at| appends[*at].write.run_id);
    order
}

/// The same in one transaction: keys first, then the rows, then whatever follows from those that were written.
async fn commit_with_extras(
    db: &mut PgConnection,
    appends: &[Append],
    mut in_order: Vec<usize>,
    answers: &mut [Result<(), WriteError>],
) -> Result<(), Fault> {
    let mut transaction = db.begin().await?;
    let keys = take_keys(&mut transaction, appends, &mut in_order, answers).await?;
    let written = update(&mut transaction, appends, &in_order).await?;
    let (done, missed): (Vec<_>, Vec<_>) = in_order.into_iter().partition(|at| written.contains(at));
    // To somebody who asks twice, "asked before" says more than "somebody was faster"; but nothing was done here, so
    // nothing was asked.
    let unused: Vec<_> = keys.iter().filter(|(at, _)| missed.contains(at)).map(|(_, id)| *id).collect();
    if !unused.is_empty() {
        replies::forget(&mut transaction, unused).await?;
    }
    let done: Vec<_> = done.into_iter().map(|at| &appends[at]).collect();
    write_run_extras::write(&mut transaction, &done).await?;
    point("postgres.before_whole");
    transaction.commit().await?;
    point("postgres.whole_done");
    explain(db, appends, missed, answers).await
}

/// Keeps the answers that writes bring along. Those whose key was used before leave the group.
async fn take_keys(
    db: &mut PgConnection,
    appends: &[Append],
    in_order: &mut Vec<usize>,
    answers: &mut [Result<(), WriteError>],
) -> Result<Vec<(usize, Uuid)>, Fault> {
    let (mut wanted, mut keys) = (HashSet::new(), Vec::new());
    in_order.retain(|at| match appends[*at].key_id() {
        Some(id) if !wanted.insert(id) => {
            answers[*at] = Err(WriteError::KeyTaken);
            false
        }
        Some(id) => {
            keys.push((*at, id));
            true
        }
        None => true,
    });
    if keys.is_empty() {
        return Ok(keys);
    }
    let free = replies::remember(db, &answers_of(appends, &keys)).await?;
    keys.retain(|(at, id)| {
        let is_free = free.contains(id);
        if !is_free {
            answers[*at] = Err(WriteError::KeyTaken);
        }
        is_free
    });
    in_order.retain(|at| answers[*at].is_ok());
    Ok(keys)
}

fn answers_of<'a>(appends: &'a [Append], keys: &[(usize, Uuid)]) -> Vec<(TenantId, &'a Remember)> {
    let writes = keys.iter().map(|(at, _)| &appends[*at].write);
    writes.filter_map(|write| Some((write.tenant, write.remember.as_ref()?))).collect()
}

/// The one statement. Returns the places of those whose guard held.
async fn update(
    db: &mut PgConnection,
    appends: &[Append],
    in_order: &[usize],
) -> Result<HashSet<usize>, Fault> {
    if in_order.is_empty() {
        return Ok(HashSet::new());
    }
    let (mut runs, mut events) = (RunColumns::default(), EventColumns::default());
    let mut gates = GateColumns::default();
    for (ord, at) in (1..).zip(in_order) {
        let append = &appends[*at];
        runs.push(append);
        append.events.iter().for_each(|event| events.push(ord, event));
        if let Some(change) = append.closing() {
            gates.push(ord, append, change);
        }
    }
    let row = sqlx::query(query!("write_run"))
        .bind(runs.ids)
        .bind(runs.tenants)
        .bind(runs.versions)
        .bind(runs.first_seqs)
        .bind(runs.event_counts)
        .bind(runs.sessions)
        .bind(runs.epochs)
        .bind(runs.let_go)
        .bind(runs.statuses)
        .bind(runs.paused_reasons)
        .bind(runs.wake_ats)
        .bind(runs.started_ats)
        .bind(runs.ended_ats)
        .bind(runs.errors)
        .bind(events.ords)
        .bind(events.ats)
        .bind(events.seqs)
        .bind(events.epochs)
        .bind(events.items)
        .bind(events.codes)
        .bind(events.nodes)
        .bind(events.attempts)
        .bind(events.actors)
        .bind(events.datas)
        .bind(gates.ords)
        .bind(gates.runs)
        .bind(gates.nodes)
        .bind(gates.attempts)
        .bind(gates.decisions)
        .bind(gates.deciders)
        .fetch_one(db)
        .await?;
    let ords: Option<Vec<i32>> = row.try_get(0)?;
    Ok(ords.unwrap_or_default().into_iter().map(|ord| in_order[ord as usize - 1]).collect())
}

#[derive(Default)]
struct RunColumns<'a> {
    ids: Vec<Uuid>,
    tenants: Vec<i32>,
    versions: Vec<i32>,
    first_seqs: Vec<Option<i32>>,
    event_counts: Vec<i32>,
    sessions: Vec<Option<Uuid>>,
    epochs: Vec<Option<i32>>,
    let_go: Vec<bool>,
    statuses: Vec<&'static str>,
    paused_reasons: Vec<Option<&'static str>>,
    wake_ats: Vec<Option<At>>,
    started_ats: Vec<Option<At>>,
    ended_ats: Vec<Option<At>>,
    errors: Vec<Option<&'a str>>,
}

impl<'a> RunColumns<'a> {
    fn push(&mut self, append: &'a Append) {
        let (write, fence) = (&append.write, append.fence());
        let projection = &write.projection;
        self.ids.push(write.run_id.0);
        self.tenants.push(write.tenant.0);
        self.versions.push(int4(write.version.0));
        self.first_seqs.push(append.first_seq());
        self.event_counts.push(append.events.len() as i32);
        self.sessions.push(fence.map(|fence| fence.session.0));
        self.epochs.push(fence.map(|fence| int4(fence.epoch.0)));
        self.let_go.push(append.lets_go());
        self.statuses.push(projection.status.as_str());
        self.paused_reasons.push(projection.paused_reason.map(|reason| reason.as_str()));
        self.wake_ats.push(projection.wake_at.map(At));
        self.started_ats.push(projection.started_at.map(At));
        self.ended_ats.push(projection.ended_at.map(At));
        self.errors.push(projection.error.as_deref());
    }
}

#[derive(Default)]
struct EventColumns<'a> {
    /// The place of the event's run in the batch.
    ords: Vec<i32>,
    ats: Vec<At>,
    seqs: Vec<i32>,
    epochs: Vec<Option<i32>>,
    items: Vec<i32>,
    codes: Vec<i16>,
    nodes: Vec<Option<i16>>,
    attempts: Vec<Option<i16>>,
    actors: Vec<Option<&'a str>>,
    datas: Vec<&'a str>,
}

impl<'a> EventColumns<'a> {
    fn push(&mut self, ord: i32, event: &'a StoredEvent) {
        self.ords.push(ord);
        self.ats.push(At(event.at));
        self.seqs.push(int4(event.seq.0));
        self.epochs.push(event.epoch.map(|epoch| int4(epoch.0)));
        self.items.push(event.item.map_or(NO_ITEM, u32::cast_signed));
        self.codes.push(event.code);
        self.nodes.push(event.node.map(|node| node.0.cast_signed()));
        self.attempts.push(event.attempt.map(u16::cast_signed));
        self.actors.push(event.actor.as_deref());
        self.datas.push(&event.data);
    }
}

/// Gates that are closed.
#[derive(Default)]
struct GateColumns<'a> {
    /// The place of the gate's run in the batch.
    ords: Vec<i32>,
    runs: Vec<Uuid>,
    /// None means every gate of the run.
    nodes: Vec<Option<&'a str>>,
    attempts: Vec<Option<i32>>,
    decisions: Vec<&'static str>,
    deciders: Vec<Option<&'a str>>,
}

impl<'a> GateColumns<'a> {
    fn push(&mut self, ord: i32, append: &Append, change: &'a ApprovalChange) {
        let (node, attempt, decision, by) = match change {
            ApprovalChange::Closed { node, attempt, decision, by } => {
                (Some(node.as_str()), Some(i32::from(*attempt)), *decision, by.as_deref())
            }
            ApprovalChange::ClosedAll => (None, None, ApprovalDecision::Withdrawn, None),
            ApprovalChange::Opened { .. } => return,
        };
        self.ords.push(ord);
        self.runs.push(append.write.run_id.0);
        self.nodes.push(node);
        self.attempts.push(attempt);
        self.decisions.push(decision.as_str());
        self.deciders.push(by);
    }
}

/// A run's row as it stood in the way of a write.
struct Obstacle {
    tenant: TenantId,
    version: i32,
    next_seq: i32,
    lease: (Option<SessionId>, i32),
    has_ended: bool,
}

/// Says of each write that was not done what stood in its way.
async fn explain(
    db: &mut PgConnection,
    appends: &[Append],
    missed: Vec<usize>,
    answers: &mut [Result<(), WriteError>],
) -> Result<(), Fault> {
    if missed.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = missed.iter().map(|at| appends[*at].write.run_id.0).collect();
    let rows = sqlx::query(query!("write_run.why")).bind(ids).fetch_all(db).await;
    // Whatever happens here, the writes of the others are committed and must be answered as such.
    let obstacles = rows.map_err(Fault::from).and_then(|rows| rows.iter().map(obstacle).collect());
    let obstacles: Result<HashMap<_, _>, String> =
        obstacles.map_err(|fault: Fault| fault.into_store().to_string());
    for at in missed {
        answers[at] = Err(match &obstacles {
            Ok(obstacles) => reason(&appends[at], obstacles.get(&appends[at].write.run_id.0)),
            Err(problem) => StoreError::Unavailable(problem.clone().into()).into(),
        });
    }
    Ok(())
}

fn obstacle(row: &PgRow) -> Result<(Uuid, Obstacle), Fault> {
    let obstacle = Obstacle {
        tenant: TenantId(row.try_get("tenant")?),
        version: row.try_get("version")?,
        next_seq: row.try_get("next_seq")?,
        lease: (row.try_get::<Option<Uuid>, _>("lease_owner")?.map(SessionId), row.try_get("epoch")?),
        has_ended: row.try_get("has_ended")?,
    };
    Ok((row.try_get("id")?, obstacle))
}

fn reason(append: &Append, obstacle: Option<&Obstacle>) -> WriteError {
    let obstacle = obstacle.filter(|it| it.tenant == append.write.tenant && !it.has_ended);
    let (Some(obstacle), fence) = (obstacle, append.fence()) else {
        return if append.fence().is_some() { WriteError::Fenced } else { WriteError::Moved };
    };
    let is_mine = |fence: Fence| obstacle.lease == (Some(fence.session), int4(fence.epoch.0));
    if !fence.is_none_or(is_mine) {
        return WriteError::Fenced;
    }
    match append.first_seq() {
        Some(first) if obstacle.version == int4(append.write.version.0) => {
            refused(format!("event {first} where {} must follow", obstacle.next_seq)).into()
        }
        _ => WriteError::Moved,
    }
}
