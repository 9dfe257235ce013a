//! A whole Windlass inside this process: store, worker and HTTP API, as `dev` and `run` need it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_api::{CursorKey, Door, DoorOptions};
use windlass_boot::{DatabaseUrl, Health, Settings};
use windlass_bus::InProcessBus;
use windlass_engine::{Runners, Secrets};
use windlass_model::SessionId;
use windlass_model::workflow::Catalog;
use windlass_store::{Plans, Store};
use windlass_worker::nodes::{self, EgressPolicy, NodeOptions};
use windlass_worker::{HttpSink, Sink, WorkerOptions, WorkerParts};

use crate::failure::Failure;

/// The parts of a running Windlass. Dropping it stops nothing: call [`House::stop`].
pub struct House {
    /// `http://127.0.0.1:7070`
    pub server: String,
    shutdown: CancellationToken,
    worker: JoinHandle<Result<()>>,
    door: JoinHandle<std::io::Result<()>>,
}

/// Every kind of node that this binary can run.
pub fn catalog() -> Catalog {
    nodes::all(&NodeOptions::default()).catalog()
}

/// The same, for checks without a server: tools and agents that a definition does not hold may be registered there.
pub fn catalog_without_registry() -> Catalog {
    catalog().trusting_callees()
}

/// The file of a SQLite database, as settings name it.
///
/// # Errors
/// When they name a database of several processes.
pub fn database_path(settings: &Settings) -> Result<&Path> {
    match &settings.database_url {
        DatabaseUrl::Sqlite(path) => Ok(path),
        DatabaseUrl::Postgres(_) => {
            let problem =
                format!("{} is for several processes, and this is one alone", settings.database_url);
            Err(Failure::usage(problem)
                .hint("name a file, as in --db windlass.db, or start `windlass api` and `windlass worker`")
                .into())
        }
    }
}

impl House {
    /// Starts the worker and answers HTTP on `listener`, until `shutdown` is tripped.
    pub async fn start(
        settings: &Settings,
        options: DoorOptions,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let runners = runners(settings)?;
        database_path(settings)?;
        let store: Arc<dyn Store> = windlass_boot::open_store(settings, true).await?;
        let plans = Arc::new(Plans::new(store.clone(), Arc::new(runners.catalog())));
        let bus = InProcessBus::new();
        let health = Health::default();
        let parts = WorkerParts {
            session: new_session(),
            store: store.clone(),
            plans: plans.clone(),
            bus: bus.clone(),
            runners,
            secrets: Secrets::from_env(),
            sink: sink(settings)?,
            health: health.clone(),
        };
        let server = format!("http://{}", listener.local_addr()?);
        let door = Arc::new(Door { store, plans, bus, health, options });
        // When one half ends, for whatever reason, the other must not go on alone.
        let worker = tokio::spawn({
            let (shutdown, options) = (shutdown.clone(), worker_options(settings));
            async move {
                let _guard = shutdown.clone().drop_guard();
                windlass_worker::run(parts, options, shutdown).await
            }
        });
        let door = tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                let _guard = shutdown.clone().drop_guard();
                windlass_api::serve(listener, door, shutdown).await
            }
        });
        Ok(Self { server, shutdown, worker, door })
    }

    /// Returns when the house stops, whoever wanted it: somebody here, a signal, or a half that failed.
    pub async fn stopping(&self) {
        self.shutdown.cancelled().await;
    }

    /// Asks both halves to stop and waits until what was in flight has ended or was given up.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.wait().await
    }

    /// Waits until both halves have stopped.
    pub async fn wait(self) -> Result<()> {
        let (worker, door) = tokio::join!(self.worker, self.door);
        worker.context("the worker panicked")?.context("the worker stopped")?;
        door.context("the HTTP server panicked")?.context("the HTTP server stopped")
    }
}

/// What does the deeds of nodes, by these settings.
///
/// # Errors
/// When the list of private targets cannot be read.
pub fn runners(settings: &Settings) -> Result<Runners> {
    let egress = EgressPolicy::parse(&settings.egress_allow)
        .map_err(|problem| Failure::usage(format!("egress_allow: {problem}")))?;
    Ok(nodes::all(&NodeOptions { egress }))
}

/// One for each start of a worker.
pub fn new_session() -> SessionId {
    SessionId(Uuid::new_v4())
}

/// Where emitted events are posted, if anywhere.
///
/// # Errors
/// When there is no TLS to be had.
pub fn sink(settings: &Settings) -> Result<Option<Arc<dyn Sink>>> {
    let Some(url) = &settings.emit_url else { return Ok(None) };
    Ok(Some(Arc::new(HttpSink::new(url.0.clone())?)))
}

/// How the API behaves by these settings.
pub fn door_options(settings: &Settings) -> DoorOptions {
    let cursor_key = settings.cursor_key.as_ref().map(|key| CursorKey::from_secret(&key.0));
    DoorOptions {
        cors_origins: settings.cors_origins.clone(),
        hosts: hosts(settings, settings.listen),
        cursor_key: cursor_key.unwrap_or_default(),
        open_runs_max: open_runs_max(settings),
        ..DoorOptions::default()
    }
}

/// Who listens for this machine alone is reached by no other name, unless something in front of it passes one on.
pub fn hosts(settings: &Settings, listen: SocketAddr) -> Option<Vec<String>> {
    let any = settings.hosts.iter().any(|host| host == "*");
    let is_open = settings.hosts.is_empty() && !listen.ip().is_loopback();
    (!any && !is_open).then(|| settings.hosts.clone())
}

fn open_runs_max(settings: &Settings) -> Option<u32> {
    settings.open_runs_max.map(|max| u32::try_from(max).unwrap_or(u32::MAX))
}

/// How a worker behaves by these settings.
pub fn worker_options(settings: &Settings) -> WorkerOptions {
    WorkerOptions {
        session_ttl: settings.session_ttl,
        session_renew: settings.session_renew,
        sweep_interval: settings.sweep_interval,
        stale_after: settings.stale_after,
        max_runs: settings.worker_max_runs,
        drain_timeout: settings.drain_timeout,
        child_depth_max: u32::try_from(settings.child_depth_max).unwrap_or(u32::MAX),
        open_runs_max: open_runs_max(settings),
        ..WorkerOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_settings_are_those_of_the_worker() {
        let settings = Settings::read([], Vec::new()).unwrap();
        let (ours, theirs) = (worker_options(&settings), WorkerOptions::default());
        assert_eq!(ours.session_ttl, theirs.session_ttl);
        assert_eq!(ours.session_renew, theirs.session_renew);
        assert_eq!(ours.sweep_interval, theirs.sweep_interval);
        assert_eq!(ours.stale_after, theirs.stale_after);
        assert_eq!(ours.max_runs, theirs.max_runs);
        assert_eq!(ours.drain_timeout, theirs.drain_timeout);
        assert_eq!(ours.child_depth_max, theirs.child_depth_max);
        assert_eq!(ours.open_runs_max, theirs.open_runs_max);
    }
}
