//! Circuit breakers: which tools, agents and hosts are in trouble.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::Timestamp;
use windlass_model::circuit::{Circuit, CircuitKey, Guarded};

use super::callees::ListParams;
use crate::actor::Caller;
use crate::app::Shared;
use crate::page::Page;
use crate::problem::Result;
use crate::query::Query;

/// Where the calls of one tool, agent or host stand.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CircuitBreaker)]
pub(crate) struct CircuitBreaker {
    /// `tool`, `agent` or `host`.
    kind: &'static str,
    /// Of a host with its port, unless that is the usual one.
    name: String,
    /// `closed`: calls are made. `open`: they are refused. `half_open`: one tries, the others are refused.
    state: &'static str,
    /// Failures that count since the window began.
    failures: u32,
    #[schema(value_type = String, format = DateTime)]
    window_ends_at: Timestamp,
    /// When the next call may try; null while it is closed.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    probe_at: Option<Timestamp>,
    /// Since when the state is this one.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

impl From<(CircuitKey, Circuit)> for CircuitBreaker {
    fn from((key, circuit): (CircuitKey, Circuit)) -> Self {
        let Circuit { state, failures, window_ends_at, probe_at, since } = circuit;
        let (kind, state) = (key.kind.as_str(), state.as_str());
        Self { kind, name: key.name, state, failures, window_ends_at, probe_at, since }
    }
}

/// List circuit breakers, by kind and name
///
/// One whose tool, agent or host has never failed is not listed.
#[utoipa::path(get, path = "/v1/circuit-breakers", operation_id = "list_circuit_breakers", tag = "tools",
    params(ListParams),
    responses((status = 200, description = "A page of circuit breakers.", body = Page<CircuitBreaker>)))]
pub(crate) async fn list(State(app): State<Shared>, caller: Caller, mut query: Query) -> Result<Response> {
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let list = app.list(caller.tenant, "circuit-breakers", String::new());
    let after = cursor.map(|cursor| list.open(&cursor, read_place)).transpose()?;
    let rows = app.store.list_circuits(caller.tenant, after, limit + 1).await?;
    let place = |(key, _): &(CircuitKey, Circuit)| format!("{}/{}", key.kind.as_str(), key.name);
    Ok(Json(Page::of(rows, limit, &list, place, CircuitBreaker::from)).into_response())
}

fn read_place(text: &str) -> Option<(Guarded, String)> {
    let (kind, name) = text.split_once('/')?;
    Some((Guarded::parse(kind)?, name.to_owned()))
}
