//! `windlass api`: the door alone. It creates runs and records commands; workers do the rest.

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use tokio::net::TcpListener;
use windlass_api::{Door, DoorOptions};
use windlass_boot::{Health, shutdown, telemetry};
use windlass_store::Plans;

use crate::dev::{refuse_strangers, with_port};
use crate::embedded;
use crate::failure::{Exit, Failure};
use crate::fleet::{self, FleetArgs};
use crate::output;

#[derive(Args, Debug)]
#[command(after_help = "\
Needs a PostgreSQL (WINDLASS_DATABASE_URL) and a Redis (WINDLASS_REDIS_URL). Any number of them may run beside \
each other, behind any balancer: none remembers anything.

Examples:
  windlass api --migrate                    brings the schema up to date first
  windlass api --listen 127.0.0.1:7080      a second one

SIGTERM stops it: requests end, streams close and find another. docs/operating.md tells how to run a fleet.")]
pub struct ApiArgs {
    /// Where to listen, as address or address:port [env: WINDLASS_LISTEN] [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Listen on an address that others can reach, although anybody there may then do everything
    #[arg(long)]
    i_know_there_is_no_authentication: bool,
}

pub async fn api(args: ApiArgs) -> Result<Exit> {
    let settings = args.fleet.settings(args.listen.as_deref().map(|it| ("listen", with_port(it))))?;
    telemetry::init(&settings, "info")?;
    refuse_strangers(settings.listen, args.i_know_there_is_no_authentication)?;
    let shutdown = shutdown::token()?;
    let metrics = telemetry::install_metrics(shutdown.clone())?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("{} cannot be listened on: {error}", settings.listen))
            .hint("another process may have it; --listen 127.0.0.1:0 picks a free port")
    })?;
    let bus = windlass_boot::open_bus(&settings)?;
    let store = fleet::open_store(&settings, &shutdown).await?;
    let plans = Arc::new(Plans::new(store.clone(), Arc::new(embedded::catalog())));
    let options = DoorOptions { metrics: Some(metrics), ..embedded::door_options(&settings) };
    let door = Arc::new(Door { store, plans, bus, health: Health::default(), options });
    let server = format!("http://{}", listener.local_addr()?);
    output::data(&format!("listening on {server}"))?;
    windlass_api::serve(listener, door, shutdown).await.context("the HTTP server stopped")?;
    Ok(Exit::Ok)
}
