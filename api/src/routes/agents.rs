//! Agents that many workflows share: register, read, change, delete.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use windlass_model::callee::CalleeKind::Agent;

use super::callees::{self, CalleeBody, CalleeSummary, CalleeView, ListParams, Registered};
use crate::actor::Caller;
use crate::app::Shared;
use crate::idempotency::Deed;
use crate::openapi::{NotFound, PreconditionFailed, PreconditionRequired};
use crate::page::Page;
use crate::problem::Result;
use crate::query::{At, Query};

/// List agents, by name
#[utoipa::path(get, path = "/v1/agents", operation_id = "list_agents", tag = "agents",
    params(ListParams), responses((status = 200, description = "A page of agents.", body = Page<CalleeSummary>)))]
pub(crate) async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response> {
    callees::list(&app, Agent, &caller, query).await
}

/// Register an agent
///
/// Makes the agent, or changes it when there is one of this name. With `If-None-Match: *` it is only made, never changed.
/// Definitions take along what they call when they are published: a change reaches a workflow when it is published again.
#[utoipa::path(post, path = "/v1/agents", operation_id = "register_agent", tag = "agents",
    params(("If-None-Match" = Option<String>, Header, description = "`*`: refuse when there is one of this name.", pattern = r"^\*$")),
    request_body(content((CalleeBody = "application/json"), (Object = "application/yaml"))),
    responses(
        (status = 201, description = "The agent was made.", body = Registered,
            headers(("Location" = String, description = "The agent."), ("ETag" = String))),
        (status = 200, description = "The agent existed; it has a new revision unless nothing changed.", body = Registered,
            headers(("ETag" = String))),
        PreconditionFailed,
    ))]
pub(crate) async fn register(
    State(app): State<Shared>,
    query: Query,
    headers: HeaderMap,
    deed: Deed,
) -> Result<Response> {
    callees::register(&app, Agent, query, &headers, &deed).await
}

/// Read an agent with its definition
#[utoipa::path(get, path = "/v1/agents/{name}", operation_id = "get_agent", tag = "agents",
    params(("name" = String, Path, pattern = r"^[a-z][a-z0-9_.-]{0,99}$")),
    responses((status = 200, description = "The agent.", body = CalleeView, headers(("ETag" = String))), NotFound))]
pub(crate) async fn get(State(app): State<Shared>, caller: Caller, at: At, query: Query) -> Result<Response> {
    callees::get(&app, Agent, &caller, &at, query).await
}

/// Change an agent
///
/// The definition must carry the name in the address. `If-Match` says which revision is changed.
#[utoipa::path(put, path = "/v1/agents/{name}", operation_id = "put_agent", tag = "agents",
    params(
        ("name" = String, Path, pattern = r"^[a-z][a-z0-9_.-]{0,99}$"),
        ("If-Match" = String, Header, description = "The `ETag` that was read, or `*`.", pattern = r#"^(\*|"[0-9]{1,9}")$"#),
    ),
    request_body(content((CalleeBody = "application/json"), (Object = "application/yaml"))),
    responses(
        (status = 200, description = "The agent was changed.", body = Registered, headers(("ETag" = String))),
        NotFound, PreconditionFailed, PreconditionRequired,
    ))]
pub(crate) async fn put(
    State(app): State<Shared>,
    at: At,
    query: Query,
    headers: HeaderMap,
    deed: Deed,
) -> Result<Response> {
    callees::put(&app, Agent, &at, query, &headers, &deed).await
}

/// Delete an agent
///
/// Nothing new can call it. Definitions that have taken it along, and their runs, go on.
#[utoipa::path(delete, path = "/v1/agents/{name}", operation_id = "delete_agent", tag = "agents",
    params(
        ("name" = String, Path, pattern = r"^[a-z][a-z0-9_.-]{0,99}$"),
        ("If-Match" = String, Header, description = "The `ETag` that was read, or `*`.", pattern = r#"^(\*|"[0-9]{1,9}")$"#),
    ),
    responses((status = 204, description = "It is deleted."), NotFound, PreconditionFailed, PreconditionRequired))]
pub(crate) async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
    headers: HeaderMap,
) -> Result<StatusCode> {
    callees::delete(&app, Agent, &caller, &at, query, &headers).await
}
