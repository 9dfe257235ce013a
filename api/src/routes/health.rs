//! Whether this process lives, makes progress, and what it has to tell about itself.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::RunStatus;

use crate::app::Shared;
use crate::openapi::NotFound;
use crate::problem::{Code, Fault, Problem, Result};
use crate::query::Query;

/// A database that takes longer is not there for those who wait.
const STORE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    /// `ok`
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`
    status: &'static str,
    /// Everything that was looked at.
    checked: Vec<&'static str>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct About {
    name: &'static str,
    version: &'static str,
}

/// Tell whether the process lives
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "health",
    responses((status = 200, description = "It lives.", body = Alive)))]
pub(crate) async fn healthz(query: Query) -> Result<Response> {
    query.finish()?;
    Ok(Json(Alive { status: "ok" }).into_response())
}

/// Tell whether the process makes progress
///
/// Asks the database and every background loop; a 503 names what fails.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health",
    responses((status = 200, description = "It makes progress.", body = Ready)))]
pub(crate) async fn readyz(State(app): State<Shared>, query: Query) -> Result<Response> {
    query.finish()?;
    let mut checked = vec!["store"];
    let mut failing = Vec::new();
    match tokio::time::timeout(STORE_WITHIN, app.store.now()).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => failing.push(("store", "the database answers with an error".to_owned())),
        Err(_) => failing.push(("store", format!("the database took longer than {STORE_WITHIN:?}"))),
    }
    for (name, keeps_its_promise) in app.health.loops() {
        checked.push(name);
        if !keeps_its_promise {
            failing.push((name, "the loop has missed three of its periods".to_owned()));
        }
    }
    if app.closing.is_cancelled() {
        failing.push(("process", "it is shutting down".to_owned()));
    }
    if failing.is_empty() {
        return Ok(Json(Ready { status: "ready", checked }).into_response());
    }
    let names: Vec<_> = failing.iter().map(|(name, _)| *name).collect();
    let problem = Problem::new(Code::NotReady, format!("Failing: {}.", names.join(", ")));
    Err(failing.into_iter().fold(problem, |problem, (name, detail)| {
        problem.with(Fault { parameter: Some(name.to_owned()), detail, ..Fault::default() })
    }))
}

/// Read metrics in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "Metrics.", body = String, content_type = "text/plain"), NotFound))]
pub(crate) async fn metrics(State(app): State<Shared>, query: Query) -> Result<Response> {
    query.finish()?;
    let handle = app.options.metrics.as_ref().ok_or_else(|| Problem::not_found("route"))?;
    if let Ok(Ok(counts)) = tokio::time::timeout(STORE_WITHIN, app.store.count_runs()).await {
        for status in RunStatus::ALL {
            let count = counts.by_status.get(status).copied().unwrap_or(0);
            metrics::gauge!("runs", "status" => status.as_str()).set(count as f64);
        }
        let waiting = counts.oldest_claimable.unwrap_or_default();
        metrics::gauge!("runs_oldest_claimable_seconds").set(waiting.as_secs_f64());
    }
    if let Ok(Ok(open)) = tokio::time::timeout(STORE_WITHIN, app.store.count_open_circuits()).await {
        metrics::gauge!("circuit_breakers_open").set(open as f64);
    }
    if let Some(count) = open_descriptors() {
        metrics::gauge!("process_open_fds").set(count as f64);
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render())
        .into_response())
}

/// None where the system does not tell. A worker that hides from its scripts shows them to nobody else.
fn open_descriptors() -> Option<usize> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // One of them is this look.
    Some(entries.count().saturating_sub(1))
}

/// Tell which Windlass this is
#[utoipa::path(get, path = "/version", operation_id = "version", tag = "health",
    responses((status = 200, description = "Name and version.", body = About)))]
pub(crate) async fn version(query: Query) -> Result<Response> {
    query.finish()?;
    Ok(Json(About { name: "windlass", version: env!("CARGO_PKG_VERSION") }).into_response())
}
