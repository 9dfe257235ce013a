//! What every case needs: a store, its clock, and short ways to make runs and writes.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::event::{
    Event, EventBody, RunCompleted, RunCreated, StepFailed, StepStarted, StepSucceeded, Then,
};
use windlass_model::{
    Attempt, Digest, Epoch, EventSeq, NodeIndex, Payload, Priority, RunId, RunStatus, SessionId, StepError,
    TenantId, Timestamp, VersionId,
};

use crate::{
    Clock, Definition, Fence, Guard, IdempotencyKey, Labels, NewRun, Pin, Projection, Remember, Reply,
    RunRecord, RunRow, RunWrite, Store, WriteError,
};

pub(super) const TENANT: TenantId = TenantId::DEFAULT;
/// Whoever makes a subject sees to it that this tenant exists.
pub(super) const OTHER_TENANT: TenantId = TenantId(2);
pub(super) const STALE_AFTER: Duration = Duration::from_secs(60);
pub(super) const TTL: Duration = Duration::from_secs(5);

/// A fresh store under test.
pub struct Subject {
    pub store: Arc<dyn Store>,
    /// The clock that the store goes by. It may stand still or go on by itself.
    pub clock: Arc<dyn MovableClock>,
    /// Whatever must live as long as the store, such as its folder.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// The clock of a store under test. A database's is moved inside the database.
pub trait MovableClock: Send + Sync {
    fn now(&self) -> Timestamp;

    /// Lets `span` pass at once.
    fn advance(&self, span: Duration);
}

impl MovableClock for Clock {
    fn now(&self) -> Timestamp {
        self.now()
    }

    fn advance(&self, span: Duration) {
        self.advance(span);
    }
}

impl Subject {
    pub(super) async fn definition(&self) -> VersionId {
        self.definition_of(TENANT, "release-notes").await
    }

    pub(super) async fn definition_of(&self, tenant: TenantId, name: &str) -> VersionId {
        self.store.put_inline(tenant, definition(name, "{}")).await.expect("an inline definition")
    }

    /// A run that waits for an engine.
    pub(super) async fn create(&self, n: u32) -> RunRow {
        let run = new_run(n, self.definition().await);
        self.store.create_run(run).await.expect("a fresh run");
        self.row(n).await
    }

    pub(super) async fn row(&self, n: u32) -> RunRow {
        self.store.get_run(TENANT, run_id(n)).await.expect("a read").expect("the run is there")
    }

    pub(super) async fn record(&self, n: u32) -> RunRecord {
        self.store.load_run(TENANT, run_id(n)).await.expect("a read").expect("the run is there")
    }

    pub(super) async fn renew(&self, n: u32) {
        self.store.renew_session(session(n), TTL).await.expect("a session");
    }

    /// What a session holds and has moved.
    pub(super) async fn moved(&self, by: u32) -> Vec<RunId> {
        let due = self.store.find_due(session(by), Duration::ZERO, STALE_AFTER, 0).await.expect("a look");
        due.moved.into_iter().map(|ring| ring.run_id).collect()
    }

    pub(super) async fn claim(&self, n: u32, by: u32) -> Option<RunRecord> {
        self.store.claim_run(run_id(n), session(by), STALE_AFTER).await.expect("a claim")
    }

    /// A run that a living session holds, ready to be written.
    pub(super) async fn held(&self, n: u32, by: u32) -> Hand {
        self.create(n).await;
        self.renew(by).await;
        Hand::engine(&self.claim(n, by).await.expect("a queued run").row)
    }

    /// Runs 1 to `count`, made side by side, all held by one session.
    pub(super) async fn all_held(&self, count: u32, by: u32) -> Vec<Hand> {
        let version = self.definition().await;
        self.renew(by).await;
        let mut tasks = JoinSet::new();
        for n in 1..=count {
            let store = self.store.clone();
            tasks.spawn(async move {
                store.create_run(new_run(n, version)).await.expect("a fresh run");
                let claimed = store.claim_run(run_id(n), session(by), STALE_AFTER).await.expect("a claim");
                Hand::engine(&claimed.expect("a queued run").row)
            });
        }
        tasks.join_all().await
    }

    /// Lets the engine park its run in this status.
    pub(super) async fn parked(&self, n: u32, by: u32, projection: Projection) -> RunRow {
        let mut hand = self.held(n, by).await;
        hand.projection = Projection { started_at: hand.projection.started_at, ..projection };
        let mut write = hand.write(Vec::new());
        write.release = true;
        self.store.write_run(write).await.expect("a release");
        self.row(n).await
    }

    pub(super) async fn write(&self, hand: &mut Hand, bodies: Vec<Happened>) {
        let write = hand.write(bodies);
        self.store.write_run(write.clone()).await.expect("a write whose guard holds");
        hand.wrote(&write);
    }
}

pub(super) fn run_id(n: u32) -> RunId {
    format!("01900000-0000-7000-8000-{n:012}").parse().expect("a UUID")
}

pub(super) fn session(n: u32) -> SessionId {
    format!("0190ffff-0000-7000-8000-{n:012}").parse().expect("a UUID")
}

pub(super) fn definition(name: &str, spec: &str) -> Definition {
    let hash = Digest::of(format!("{name} {spec}").as_bytes());
    Definition { name: name.into(), hash, spec: spec.into() }
}

pub(super) fn new_run(n: u32, version_id: VersionId) -> NewRun {
    NewRun {
        id: run_id(n),
        tenant: TENANT,
        version_id,
        pin: Pin::Inline,
        parent: None,
        priority: Priority::Normal,
        labels: Labels::new(),
        event: Event {
            seq: EventSeq(1),
            at: Timestamp(1_000 + i64::from(n)),
            node: None,
            item: None,
            attempt: None,
            epoch: None,
            actor: Some("user:ada".into()),
            body: RunCreated::default().into(),
        },
        projection: projection(RunStatus::Queued),
        blobs: Vec::new(),
        group: None,
        firing: None,
        remember: None,
    }
}

pub(super) fn projection(status: RunStatus) -> Projection {
    Projection { status, paused_reason: None, wake_at: None, started_at: None, ended_at: None, error: None }
}

pub(super) fn remember(key: &str) -> Remember {
    Remember {
        key: IdempotencyKey {
            principal: "user:ada".into(),
            route: "POST /v1/workflow-runs".into(),
            key: key.into(),
        },
        reply: Reply {
            request: Digest::of(b"body"),
            status: 201,
            body: serde_json::json!({"id": "…", "n": 1.5}),
            location: Some("/v1/workflow-runs/1".into()),
        },
    }
}

/// An event without what the place in the log gives it.
pub(super) struct Happened {
    pub(super) node: Option<u16>,
    pub(super) item: Option<u32>,
    pub(super) attempt: Option<Attempt>,
    pub(super) body: EventBody,
}

pub(super) fn to_run(body: impl Into<EventBody>) -> Happened {
    Happened { node: None, item: None, attempt: None, body: body.into() }
}

pub(super) fn to_step(node: u16, attempt: Attempt, body: impl Into<EventBody>) -> Happened {
    Happened { node: Some(node), item: None, attempt: Some(attempt), body: body.into() }
}

pub(super) fn started(node: u16, attempt: Attempt) -> Happened {
    to_step(node, attempt, StepStarted::default())
}

pub(super) fn succeeded(node: u16, attempt: Attempt) -> Happened {
    to_step(node, attempt, StepSucceeded::default())
}

pub(super) fn failed(node: u16, attempt: Attempt) -> Happened {
    let error = StepError::new("timeout", "too slow");
    to_step(node, attempt, StepFailed { error, then: Then::Pause, artifacts: Vec::new() })
}

pub(super) fn completed() -> Happened {
    to_run(RunCompleted { output: Payload::null() })
}

/// Somebody who has read a run and writes to it.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    pub(super) row: RunRow,
    pub(super) guard: Guard,
    pub(super) projection: Projection,
}

impl Hand {
    pub(super) fn engine(row: &RunRow) -> Self {
        let session = row.lease_owner.expect("the run is held");
        Self::with_guard(row, Guard::Engine(Fence { session, epoch: row.epoch }))
    }

    pub(super) fn door(row: &RunRow) -> Self {
        Self::with_guard(row, Guard::Door)
    }

    fn with_guard(row: &RunRow, guard: Guard) -> Self {
        let projection = Projection {
            status: row.status,
            paused_reason: row.paused_reason,
            wake_at: row.wake_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            error: row.error.clone(),
        };
        Self { row: row.clone(), guard, projection }
    }

    pub(super) fn fence(&self) -> Fence {
        match self.guard {
            Guard::Engine(fence) => fence,
            Guard::Door => panic!("the door has no fence"),
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        match self.guard {
            Guard::Engine(fence) => Some(fence.epoch),
            Guard::Door => None,
        }
    }

    /// A write that follows what was read.
    pub(super) fn write(&self, happened: Vec<Happened>) -> RunWrite {
        let seqs = self.row.next_seq.0..;
        let event = |(seq, happened): (u32, Happened)| Event {
            seq: EventSeq(seq),
            at: Timestamp(1_000_000 + i64::from(seq)),
            node: happened.node.map(NodeIndex),
            item: happened.item,
            attempt: happened.attempt,
            epoch: self.epoch(),
            actor: None,
            body: happened.body,
        };
        RunWrite {
            run_id: self.row.id,
            tenant: self.row.tenant,
            guard: self.guard,
            version: self.row.version,
            events: seqs.zip(happened).map(event).collect(),
            projection: self.projection.clone(),
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

    /// The write has happened: the next one follows it.
    pub(super) fn wrote(&mut self, write: &RunWrite) {
        self.row.version.0 += 1;
        self.row.next_seq.0 += write.events.len() as u32;
    }
}

pub(super) fn is_refused(result: &Result<(), WriteError>) -> bool {
    matches!(result, Err(WriteError::Store(crate::StoreError::Refused(_))))
}
