//! As much of an engine as the door's tests need: it takes a run and moves it until it parks.

use std::time::Duration;

use serde_json::{Value, json};
use windlass_bus::Bus;
use windlass_model::callee::CalleeKind;
use windlass_model::command::Outcome;
use windlass_model::event::Artifact;
use windlass_model::payload::Blob;
use windlass_model::workflow::{Catalog, KindSpec};
use windlass_model::{
    Event, Input, NodeIndex, Payload, Plan, RunId, RunState, RunVersion, SessionId, StepError, TenantId,
    decide, open_work,
};
use windlass_store::{Fence, Guard, RunWrite, Runs, Sessions};

use crate::house::House;

const STALE_AFTER: Duration = Duration::from_secs(60);

const fn kind(name: &'static str) -> KindSpec {
    KindSpec { name, summary: "For tests", params: || json!({"type": "object"}), retry_safe: |_| true }
}

/// `noop`, `transform` (gives `output` as it is), `fail`, `file` (leaves `file`, `media_type`, `content`), and
/// `hang`, which is started and never ends. Tools and agents do `noop`.
pub(crate) fn catalog() -> Catalog {
    let kinds = Catalog::new([kind("noop"), kind("transform"), kind("fail"), kind("file"), kind("hang")]);
    CalleeKind::ALL.into_iter().fold(kinds, |kinds, of| kinds.with_deeds(of, vec![kind("noop")]))
}

fn run_node(plan: &Plan, node: NodeIndex) -> Option<(Outcome, Vec<Blob>)> {
    let node = plan.node(node);
    let params = node.params.source();
    let text = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
    let done =
        |output: Value, artifacts| Outcome::Succeeded { output: Payload::new(output), artifacts, emit: None };
    Some(match node.kind.as_str() {
        "hang" => return None,
        "fail" => {
            (Outcome::Failed { error: StepError::new("test.failed", "It fails."), artifacts: vec![] }, vec![])
        }
        "transform" => (done(params["output"].clone(), vec![]), vec![]),
        "file" => {
            let blob = Blob::new(text("content").into_bytes());
            let artifact =
                Artifact { name: text("file"), media_type: text("media_type"), blob: blob.reference() };
            (done(json!({}), vec![artifact]), vec![blob])
        }
        _ => (done(json!({}), vec![]), vec![]),
    })
}

/// A run in an engine's hands.
pub(crate) struct Held {
    plan: std::sync::Arc<Plan>,
    state: RunState,
    version: RunVersion,
    fence: Fence,
}

impl House {
    /// Moves a run as far as it goes, and lets it go.
    pub(crate) async fn drive(&self, run: &str) {
        if let Some(held) = self.hold(run).await {
            self.let_go(held).await;
        }
    }

    /// Moves a run as far as it goes, and keeps it.
    pub(crate) async fn hold(&self, run: &str) -> Option<Held> {
        let run_id: RunId = run.parse().expect("an id");
        let session = SessionId(uuid::Uuid::now_v7());
        self.store.renew_session(session, STALE_AFTER).await.expect("a session");
        let record = self.store.claim_run(run_id, session, STALE_AFTER).await.expect("a claim")?;
        let plan = self.door.plans.get(record.row.version_id).await.expect("a plan");
        self.bus.publish(run_id, record.events.clone());
        let state = RunState::fold(&plan, run_id, record.snapshot, &record.events).expect("a sound log");
        let fence = Fence { session, epoch: record.row.epoch };
        let mut held = Held { plan, state, version: record.row.version, fence };
        self.tick(&mut held, Input::Taken, vec![]).await;
        loop {
            self.tick(&mut held, Input::Advance, vec![]).await;
            let work = open_work(&held.state).find_map(|work| {
                let (outcome, blobs) = run_node(&held.plan, work.node)?;
                let input =
                    Input::Outcome { node: work.node, item: work.item, attempt: work.attempt, outcome };
                Some((input, blobs))
            });
            let Some((input, blobs)) = work else { return Some(held) };
            self.tick(&mut held, input, blobs).await;
        }
    }

    async fn tick(&self, held: &mut Held, input: Input, blobs: Vec<Blob>) {
        let now = self.store.now().await.expect("a time");
        let events = decide(&held.plan, &mut held.state, input, now).expect("engines are not refused");
        if !events.is_empty() {
            self.write(held, events, blobs, true).await;
        }
    }

    async fn write(&self, held: &mut Held, events: Vec<Event>, blobs: Vec<Blob>, keep: bool) {
        let keep = keep && !held.state.is_terminal();
        let guard = Guard::Engine(held.fence);
        let mut write = RunWrite::new(
            TenantId::DEFAULT,
            guard,
            held.version,
            &held.plan,
            &held.state,
            events.clone(),
            keep,
        );
        write.blobs.extend(blobs);
        self.store.write_run(write).await.expect("the lease holds");
        held.version.0 += 1;
        self.bus.publish(held.state.run_id, events);
    }

    pub(crate) async fn let_go(&self, mut held: Held) {
        if !held.state.is_terminal() {
            self.write(&mut held, vec![], vec![], false).await;
        }
    }
}
