//! `windlass dev`: API, worker and documentation in one process on SQLite.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tokio::net::TcpListener;
use windlass_boot::{Settings, shutdown, telemetry};

use crate::client::{Client, Identity, settings_failure};
use crate::embedded::{House, database_path, door_options};
use crate::failure::{Exit, Failure};
use crate::{definitions, output, push};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  windlass dev                                  on http://127.0.0.1:7070, in .windlass/windlass.db
  windlass dev --port 0                         on a free port; the first line says which
  windlass dev --watch workflows/               publish definitions as they change
  windlass dev --egress-allow 127.0.0.1/32      let http nodes call this machine

Ctrl-C stops it: steps in flight may finish first, and runs go on at the next start.
Every setting and its variable: docs/configuration.md")]
pub struct DevArgs {
    /// The port of the API; 0 picks a free one [env: WINDLASS_LISTEN] [default: 7070]
    #[arg(long)]
    port: Option<u16>,
    /// Where the API listens, as address or address:port [env: WINDLASS_LISTEN] [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The database file [env: WINDLASS_DATABASE_URL] [default: .windlass/windlass.db]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// A folder whose definitions are published now and whenever they change
    #[arg(long, value_name = "DIR")]
    watch: Option<PathBuf>,
    /// Private targets that http nodes may call: CIDRs or hosts, comma separated [env: WINDLASS_EGRESS_ALLOW]
    #[arg(long, value_name = "LIST")]
    egress_allow: Option<String>,
    /// A TOML file with settings [env: WINDLASS_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen on an address that others can reach, although anybody there may then do everything
    #[arg(long)]
    i_know_there_is_no_authentication: bool,
}

impl DevArgs {
    fn settings(&self) -> Result<Settings> {
        let path = |path: &PathBuf| path.display().to_string();
        let flags = [
            ("config", self.config.as_ref().map(path)),
            ("database_url", self.db.as_ref().map(|file| format!("sqlite://{}", file.display()))),
            ("egress_allow", self.egress_allow.clone()),
            ("listen", self.listen.as_ref().map(|address| with_port(address))),
        ];
        let given = flags.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let mut settings = Settings::load(given).map_err(settings_failure)?;
        if let Some(port) = self.port {
            settings.listen.set_port(port);
        }
        Ok(settings)
    }
}

/// An address without a port gets the usual one.
pub fn with_port(address: &str) -> String {
    let is_bare = address.parse::<std::net::IpAddr>().is_ok() || address == "localhost";
    match (is_bare, address.contains(':')) {
        (true, true) => format!("[{address}]:7070"),
        (true, false) => format!("{address}:7070"),
        _ => address.to_owned(),
    }
}

pub async fn dev(args: DevArgs) -> Result<Exit> {
    let settings = args.settings()?;
    database_path(&settings)?;
    telemetry::init(&settings, "info")?;
    refuse_strangers(settings.listen, args.i_know_there_is_no_authentication)?;
    let shutdown = shutdown::token()?;
    let metrics = telemetry::install_metrics(shutdown.clone())?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("{} cannot be listened on: {error}", settings.listen))
            .hint("another process may have it; --port 0 picks a free port")
    })?;
    let options = windlass_api::DoorOptions { metrics: Some(metrics), ..door_options(&settings) };
    let house = House::start(&settings, options, listener, shutdown.clone()).await?;
    greet(&house.server, &settings)?;
    if let Some(folder) = args.watch {
        let client = Client::new(&house.server, Identity::default())?;
        tokio::spawn(shutdown.run_until_cancelled_owned(publish_changes(folder, client)));
    }
    house.wait().await?;
    Ok(Exit::Ok)
}

/// There is no authentication yet: only this machine may reach the API, unless somebody insists.
pub fn refuse_strangers(listen: SocketAddr, insists: bool) -> Result<()> {
    if listen.ip().is_loopback() || insists {
        return Ok(());
    }
    Err(Failure::usage(format!("{listen} can be reached by others, and there is no authentication yet"))
        .hint("listen on 127.0.0.1, or say --i-know-there-is-no-authentication")
        .into())
}

/// The first line is for programs too: `listening on http://…`.
fn greet(server: &str, settings: &Settings) -> Result<()> {
    let who = if settings.listen.ip().is_loopback() {
        "none: every program on this machine may do everything"
    } else {
        "NONE: whoever reaches this address may do everything, and run programs here"
    };
    output::data(&format!(
        "listening on {server}\n  \
         API page        {server}/docs\n  \
         database        {}\n  \
         authentication  {who}\n",
        settings.database_url.to_string().trim_start_matches("sqlite://")
    ))
}

// ---- --watch -----------------------------------------------------------------------------------

/// How often the folder is looked at.
const WATCH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Publishes every definition of a folder, and again whenever its file changes.
async fn publish_changes(folder: PathBuf, client: Client) {
    let mut seen = std::collections::BTreeMap::new();
    loop {
        match definitions::in_folder(&folder) {
            Ok(files) => {
                for (path, modified) in files {
                    if seen.insert(path.clone(), modified) != Some(modified) {
                        publish(&path, &client).await;
                    }
                }
            }
            Err(error) => tracing::warn!("The folder {} cannot be read: {error}", folder.display()),
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn publish(path: &std::path::Path, client: &Client) {
    let pushed = async {
        let source = definitions::Source::read(path).context("it cannot be read")?;
        push::push(client, &source, &[]).await
    };
    match pushed.await {
        Ok(line) => output::note(&line),
        Err(error) => output::note(&format!("{}: {}", path.display(), crate::failure::explain(&error).1)),
    }
}
