//! Logs for people or machines, and the metrics recorder.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{LogFormat, Settings};

/// How often recorded histograms are folded, so that a process nobody scrapes keeps its size.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the histogram buckets in seconds: from a fast commit to a slow step.
const SECONDS_BUCKETS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Starts logging to standard error.
///
/// `default_filter` holds when neither the setting `log` nor `RUST_LOG` says otherwise.
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub fn init(settings: &Settings, default_filter: &str) -> Result<()> {
    let from_environment = std::env::var("RUST_LOG").ok();
    let directives = settings
        .log
        .as_deref()
        .or(from_environment.as_deref())
        .filter(|it| !it.is_empty())
        .unwrap_or(default_filter);
    let filter = EnvFilter::try_new(directives).with_context(|| {
        format!("the log filter `{directives}` cannot be read; write info or windlass_worker=debug")
    })?;
    // A log that cannot be written, because its disk is full or its reader gone, is nobody's reason to stop: told of it on
    // standard error, whoever was about to log would panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let started = match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(color).with_target(false).try_init()
        }
    };
    started.map_err(|error| anyhow!("logging cannot start: {error}"))
}

/// Installs the recorder behind `/metrics` and keeps it small until `shutdown`.
///
/// # Errors
/// When a recorder was installed before.
pub fn install_metrics(shutdown: CancellationToken) -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets(SECONDS_BUCKETS)
        .context("the buckets are a constant that is not empty")?
        .install_recorder()
        .context("the metrics recorder cannot be installed")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL)).await.is_some() {
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
