//! `windlass healthcheck`: whether a server or a worker makes progress.

use anyhow::Result;
use clap::Args;

use crate::client::ServerArgs;
use crate::failure::Exit;
use crate::output::{self, note};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  windlass healthcheck                                    the server of WINDLASS_SERVER, or this machine's
  windlass healthcheck --server http://127.0.0.1:7071     a worker, where its health_listen says

Exit codes: 0 ready, 1 not ready or not there.")]
pub struct HealthcheckArgs {
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn healthcheck(args: HealthcheckArgs) -> Result<Exit> {
    let client = args.server.client()?;
    let (ready, report) = client.readiness().await?;
    let word = if ready { "ready" } else { "not ready" };
    output::data(&format!("{} is {word}", client.server()))?;
    if !ready {
        note(&serde_json::to_string_pretty(&report)?);
    }
    Ok(if ready { Exit::Ok } else { Exit::Failed })
}
