//! Workers: the real ones, started, drained, killed and started again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use windlass_bus::Bus;
use windlass_engine::{Runner, Runners, Secrets};
use windlass_model::SessionId;
use windlass_model::callee::CalleeKind;
use windlass_store::Store;
use windlass_worker::{WorkerOptions, WorkerParts};

use super::outside::{Caller, Deed, Ear, Request};
use super::process::Process;
use super::store::SimStore;
use super::wire::Wire;
use super::{World, new_run_id};
use crate::whose::Whose;
use crate::workflows::Library;

pub(crate) const SESSION_TTL: Duration = Duration::from_secs(2);
/// Shorter than the longest deeds, so that a run whose engine says nothing is seen as abandoned.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(6);

/// A place where a worker runs; when it dies another one comes.
pub(crate) struct Worker {
    pub(crate) process: Arc<Process>,
    pub(crate) session: SessionId,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// How all workers behave: everything a little faster than by default.
fn options(open_runs_max: Option<u32>) -> WorkerOptions {
    WorkerOptions {
        child_depth_max: 8,
        open_runs_max,
        session_ttl: SESSION_TTL,
        session_renew: Duration::from_millis(500),
        sweep_interval: Duration::from_secs(1),
        stale_after: STALE_AFTER,
        max_runs: 16,
        drain_timeout: Duration::from_millis(800),
        new_run_id,
    }
}

impl Worker {
    pub(crate) fn start(world: &Arc<World>, library: &Library, tenants: &[Whose], name: String) -> Self {
        let process = Process::new(name);
        let store: Arc<dyn Store> = Arc::new(SimStore { world: world.clone(), process: process.clone() });
        let deed = || Deed { world: world.clone(), process: process.clone() };
        let plain = library.plain_runners.iter().cloned();
        let callers = CalleeKind::ALL.map(|of| Arc::new(Caller { of, deed: deed() }) as Arc<dyn Runner>);
        let deeds = [Arc::new(deed()) as Arc<dyn Runner>, Arc::new(Request(deed()))];
        let runners = Runners::new(plain.chain(deeds).chain(callers));
        let session = world.new_session();
        let parts = WorkerParts {
            session,
            plans: library.plans(store.clone(), tenants),
            store,
            bus: Arc::new(Wire { world: world.clone(), process: process.clone() }) as Arc<dyn Bus>,
            runners,
            secrets: Secrets::default(),
            sink: Some(Arc::new(Ear { world: world.clone(), process: process.clone() })),
            health: Default::default(),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(windlass_worker::run(parts, options(world.open_runs_max), shutdown.clone()));
        Self { process, session, shutdown, task }
    }

    pub(crate) fn kill(&self) {
        self.process.kill();
        self.task.abort();
    }

    /// Asks it to stop, as a deployment would.
    pub(crate) fn drain(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.task.is_finished() || self.process.is_dead()
    }
}
