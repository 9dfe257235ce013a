//! API processes: the real routes, asked without a socket between.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::Value;
use tower::ServiceExt;
use windlass_api::{Door, DoorOptions};
use windlass_bus::Bus;
use windlass_store::Store;

use super::process::Process;
use super::store::SimStore;
use super::wire::Wire;
use super::{World, new_run_id};
use crate::whose::Whose;
use crate::workflows::Library;

/// A client that has waited this long for an answer hangs up.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Api {
    pub(crate) process: Arc<Process>,
    router: axum::Router,
}

/// What a client got to see.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    /// The same was asked before, and what became of that nobody knows.
    pub(crate) after_silence: bool,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn is_over_quota(&self) -> bool {
        self.status == 429 && self.code() == "quota"
    }
}

impl Api {
    pub(crate) fn start(world: &Arc<World>, library: &Library, tenants: &[Whose], name: String) -> Arc<Self> {
        let process = Process::new(name);
        let store: Arc<dyn Store> = Arc::new(SimStore { world: world.clone(), process: process.clone() });
        let bus = Arc::new(Wire { world: world.clone(), process: process.clone() }) as Arc<dyn Bus>;
        let plans = library.plans(store.clone(), tenants);
        let options =
            DoorOptions { new_run_id, open_runs_max: world.open_runs_max, ..DoorOptions::default() };
        let door = Door { store, plans, bus, health: Default::default(), options };
        Arc::new(Self { process, router: windlass_api::router(Arc::new(door)) })
    }

    /// The head of an answer; none when it did not come in time, or the process died.
    pub(crate) async fn open(&self, request: Request<Body>) -> Option<Response<Body>> {
        let asked = async {
            self.process.passes().await;
            self.router.clone().oneshot(request).await.expect("routers don't fail")
        };
        tokio::select! {
            biased;
            () = self.process.death() => None,
            response = tokio::time::timeout(PATIENCE, asked) => response.ok(),
        }
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Option<Answer> {
        let response = self.open(request).await?;
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.ok()?;
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let replayed = head.headers.contains_key("idempotency-replayed");
        Some(Answer { status: head.status.as_u16(), replayed, after_silence: false, body })
    }
}
