//! Short ways to make runs and to write to them.

use windlass_model::event::{RunCreated, StepStarted, StepSucceeded};
use windlass_model::{
    Attempt, Digest, Event, EventBody, EventSeq, NodeIndex, RunId, RunStatus, RunVersion, SessionId,
    TenantId, Timestamp, VersionId,
};
use windlass_store::{Definition, Fence, Guard, Labels, NewRun, Pin, Projection, RunRow, RunWrite, Store};

pub(crate) const TENANT: TenantId = TenantId::DEFAULT;
pub(crate) const TTL: std::time::Duration = std::time::Duration::from_secs(600);

pub(crate) fn projection(status: RunStatus) -> Projection {
    Projection { status, paused_reason: None, wake_at: None, started_at: None, ended_at: None, error: None }
}

pub(crate) async fn definition(store: &dyn Store) -> VersionId {
    let definition = Definition { name: "plain".into(), hash: Digest::of(b"plain"), spec: "{}".into() };
    store.put_inline(TENANT, definition).await.unwrap()
}

pub(crate) fn fresh_id() -> RunId {
    RunId(uuid::Uuid::now_v7())
}

pub(crate) fn new_run(id: RunId, version_id: VersionId) -> NewRun {
    let body = RunCreated::default();
    NewRun {
        id,
        tenant: TENANT,
        version_id,
        pin: Pin::Inline,
        parent: None,
        priority: Default::default(),
        labels: Labels::new(),
        event: event(1, None, body),
        projection: projection(RunStatus::Queued),
        blobs: Vec::new(),
        group: None,
        firing: None,
        remember: None,
    }
}

pub(crate) fn event(seq: u32, attempt: Option<Attempt>, body: impl Into<EventBody>) -> Event {
    Event {
        seq: EventSeq(seq),
        at: Timestamp(1_000),
        node: attempt.map(|_| NodeIndex(0)),
        item: None,
        attempt,
        epoch: None,
        actor: None,
        body: body.into(),
    }
}

/// An engine that holds a run.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    pub(crate) id: RunId,
    pub(crate) fence: Fence,
    pub(crate) version: u32,
    pub(crate) next_seq: u32,
    pub(crate) attempt: Attempt,
}

impl Hand {
    pub(crate) fn of(row: &RunRow) -> Self {
        let session = row.lease_owner.expect("the run is held");
        let fence = Fence { session, epoch: row.epoch };
        Self { id: row.id, fence, version: row.version.0, next_seq: row.next_seq.0, attempt: 0 }
    }

    /// Makes a run and takes it.
    pub(crate) async fn fresh(store: &dyn Store, version_id: VersionId, session: SessionId) -> Self {
        let run = new_run(fresh_id(), version_id);
        let id = run.id;
        store.create_run(run).await.unwrap();
        store.renew_session(session, TTL).await.unwrap();
        Self::of(&store.claim_run(id, session, TTL).await.unwrap().expect("a queued run").row)
    }

    /// One step, as an engine writes it: done, and the next one begun.
    pub(crate) fn tick(&mut self) -> RunWrite {
        self.attempt += 1;
        let started = event(self.next_seq, Some(self.attempt), StepStarted::default());
        let succeeded = event(self.next_seq + 1, Some(self.attempt), StepSucceeded::default());
        let write = self.write(vec![started, succeeded]);
        self.version += 1;
        self.next_seq += 2;
        write
    }

    pub(crate) fn write(&self, events: Vec<Event>) -> RunWrite {
        RunWrite {
            run_id: self.id,
            tenant: TENANT,
            guard: Guard::Engine(self.fence),
            version: RunVersion(self.version),
            events,
            projection: Projection { started_at: Some(Timestamp(2_000)), ..projection(RunStatus::Running) },
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
}

pub(crate) fn fresh_session() -> SessionId {
    SessionId(uuid::Uuid::now_v7())
}
