//! `windlass worker`: the hands alone. It answers nothing but how it fares.

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_api::{Door, DoorOptions};
use windlass_boot::{Health, shutdown, telemetry};
use windlass_engine::Secrets;
use windlass_store::Plans;
use windlass_worker::WorkerParts;

use crate::embedded;
use crate::failure::{Exit, Failure};
use crate::fleet::{self, FleetArgs};
use crate::output;

#[derive(Args, Debug)]
#[command(after_help = "\
Needs a PostgreSQL (WINDLASS_DATABASE_URL) and a Redis (WINDLASS_REDIS_URL). Any number of them may run beside \
each other; a run is moved by one of them at a time, and by another when that one dies.

Examples:
  windlass worker                                    its health on http://127.0.0.1:7071/readyz
  windlass worker --health-listen 127.0.0.1:0        a second one on the same machine

SIGTERM drains it: steps in flight may finish first (drain_timeout), and its runs go to other workers. A second \
SIGTERM ends it at once.")]
pub struct WorkerArgs {
    /// Where it tells how it fares, as address:port [env: WINDLASS_HEALTH_LISTEN] [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDR")]
    health_listen: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
}

pub async fn worker(args: WorkerArgs) -> Result<Exit> {
    let settings = args.fleet.settings(args.health_listen.map(|it| ("health_listen", it)))?;
    telemetry::init(&settings, "info")?;
    let shutdown = shutdown::token()?;
    let metrics = telemetry::install_metrics(shutdown.clone())?;
    let listener = TcpListener::bind(settings.health_listen).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("{} cannot be listened on: {error}", settings.health_listen))
            .hint("another worker may have it; --health-listen 127.0.0.1:0 picks a free port")
    })?;
    let runners = embedded::runners(&settings)?;
    let bus = windlass_boot::open_bus(&settings)?;
    let store = fleet::open_store(&settings, &shutdown).await?;
    let plans = Arc::new(Plans::new(store.clone(), Arc::new(runners.catalog())));
    let health = Health::default();
    let hosts = embedded::hosts(&settings, settings.health_listen);
    let options = DoorOptions { hosts, metrics: Some(metrics), ..DoorOptions::default() };
    let door = Door {
        store: store.clone(),
        plans: plans.clone(),
        bus: bus.clone(),
        health: health.clone(),
        options,
    };
    output::data(&format!("health on http://{}", listener.local_addr()?))?;
    // It answers until the drain is over: whoever looks sees that this worker is not ready any more.
    let drained = CancellationToken::new();
    let telling =
        tokio::spawn(windlass_api::serve_health(listener, Arc::new(door), shutdown.clone(), drained.clone()));
    let parts = WorkerParts {
        session: embedded::new_session(),
        store,
        plans,
        bus,
        runners,
        secrets: Secrets::from_env(),
        sink: embedded::sink(&settings)?,
        health,
    };
    let worked = windlass_worker::run(parts, embedded::worker_options(&settings), shutdown).await;
    drained.cancel();
    telling.await.context("the health server panicked")?.context("the health server stopped")?;
    worked?;
    Ok(Exit::Ok)
}
