//! Workflows: publish, read, change, hide.

mod definition;
mod publish;
pub(crate) mod upload;
pub(crate) mod versions;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use windlass_model::{Digest, Timestamp};
use windlass_store::{Precondition, StoreError, WorkflowFilter, WorkflowRow, WriteError};

use crate::actor::Caller;
use crate::app::{App, Shared, to_the_end};
use crate::idempotency::Deed;
use crate::openapi::{Definition, NotFound, PreconditionFailed, PreconditionRequired};
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::query::{At, Query};
use crate::revision::{Wanted, etag, if_match, if_none_match, precondition_failed, precondition_required};

pub(crate) use definition::{Compiled, DefinitionBody, beside, compile};
pub(crate) use publish::{Published, answered_meanwhile, contended};

/// A workflow in a list: without its definition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkflowSummary)]
pub(crate) struct WorkflowSummary {
    pub name: String,
    /// The latest version.
    #[schema(minimum = 1)]
    pub version: u32,
    /// One more at every change; in quotes it is the `ETag`.
    #[schema(minimum = 1)]
    pub revision: u32,
    /// BLAKE3 of the latest definition.
    #[schema(value_type = String)]
    pub hash: Digest,
    pub tags: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A workflow with its latest definition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Workflow)]
pub(crate) struct WorkflowView {
    #[serde(flatten)]
    pub summary: WorkflowSummary,
    #[schema(value_type = Object)]
    pub spec: Box<RawValue>,
}

impl From<WorkflowRow> for WorkflowSummary {
    fn from(row: WorkflowRow) -> Self {
        Self {
            name: row.name,
            version: row.latest_version,
            revision: row.revision,
            hash: row.hash,
            tags: row.tags,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `list` takes")]
pub(crate) struct ListParams {
    /// Part of the name. Case is ignored.
    #[param(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    text: Option<String>,
    /// Only workflows with this tag.
    #[param(pattern = "^[a-z0-9][a-z0-9_.:/-]{0,62}$")]
    tag: Option<String>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List workflows, by name
#[utoipa::path(get, path = "/v1/workflows", operation_id = "list_workflows", tag = "workflows",
    params(ListParams), responses((status = 200, description = "A page of workflows.", body = Page<WorkflowSummary>)))]
pub(crate) async fn list(State(app): State<Shared>, caller: Caller, mut query: Query) -> Result<Response> {
    let filter = WorkflowFilter { text: query.search()?, tag: query.read("tag", definition::read_tag)? };
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let list = app.list(caller.tenant, "workflows", format!("{filter:?}"));
    let after = cursor.map(|cursor| list.open(&cursor, |name| Some(name.to_owned()))).transpose()?;
    let rows = app.store.list_workflows(caller.tenant, &filter, after.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(rows, limit, &list, |row| row.name.clone(), WorkflowSummary::from)).into_response())
}

/// Publish a workflow
///
/// Makes the workflow, or its next version when the definition differs from the latest one. With
/// `If-None-Match: *` it is only made, never changed.
#[utoipa::path(post, path = "/v1/workflows", operation_id = "publish_workflow", tag = "workflows",
    params(("If-None-Match" = Option<String>, Header, description = "`*`: refuse when there is one of this name.", pattern = r"^\*$")),
    request_body(content((DefinitionBody = "application/json"),
        (Definition = "application/yaml", example = json!(crate::view::example_spec())))),
    responses(
        (status = 201, description = "The workflow was made.", body = Published,
            headers(("Location" = String, description = "The workflow."), ("ETag" = String))),
        (status = 200, description = "The workflow existed; it has a new version unless nothing changed.", body = Published,
            headers(("ETag" = String))),
        PreconditionFailed,
    ))]
pub(crate) async fn publish(
    State(app): State<Shared>,
    query: Query,
    headers: HeaderMap,
    deed: Deed,
) -> Result<Response> {
    query.finish()?;
    let only_new = if_none_match(&headers)?;
    if let Some(answer) = deed.answered_before(&app).await? {
        return Ok(answer);
    }
    let compiled = definition::read(&app, &deed).await?;
    publish::publish(&app, &deed, compiled, only_new).await
}

/// Check a definition without publishing it
#[utoipa::path(post, path = "/v1/workflows/validate", operation_id = "validate_workflow", tag = "workflows",
    request_body(content((DefinitionBody = "application/json"),
        (Definition = "application/yaml", example = json!(crate::view::example_spec())))),
    responses((status = 200, description = "The definition is valid.", body = definition::Validated)))]
pub(crate) async fn validate(State(app): State<Shared>, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let compiled = definition::read(&app, &deed).await?;
    Ok(Json(compiled.validated()).into_response())
}

/// Read a workflow with its latest definition
#[utoipa::path(get, path = "/v1/workflows/{name}", operation_id = "get_workflow", tag = "workflows",
    params(("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$")),
    responses((status = 200, description = "The workflow.", body = WorkflowView, headers(("ETag" = String))), NotFound))]
pub(crate) async fn get(State(app): State<Shared>, caller: Caller, at: At, query: Query) -> Result<Response> {
    query.finish()?;
    let row = load(&app, &caller, at.get("name")).await?;
    let version = app.store.get_version(caller.tenant, &row.name, Some(row.latest_version)).await?;
    let version = version.ok_or_else(|| Problem::not_found("workflow"))?;
    let tag = etag(row.revision);
    let view = WorkflowView { summary: row.into(), spec: raw(version.spec)? };
    Ok(([tag], Json(view)).into_response())
}

/// Change a workflow
///
/// The definition must carry the name in the address. `If-Match` says which revision is changed.
#[utoipa::path(put, path = "/v1/workflows/{name}", operation_id = "put_workflow", tag = "workflows",
    params(
        ("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"),
        ("If-Match" = String, Header, description = "The `ETag` that was read, or `*`.", pattern = r#"^(\*|"[0-9]{1,9}")$"#),
    ),
    request_body(content((DefinitionBody = "application/json"),
        (Definition = "application/yaml", example = json!(crate::view::example_spec())))),
    responses(
        (status = 200, description = "The workflow was changed.", body = Published, headers(("ETag" = String))),
        NotFound, PreconditionFailed, PreconditionRequired,
    ))]
pub(crate) async fn put(
    State(app): State<Shared>,
    at: At,
    query: Query,
    headers: HeaderMap,
    deed: Deed,
) -> Result<Response> {
    query.finish()?;
    let name = at.get("name");
    let wanted = if_match(&headers)?.ok_or_else(precondition_required)?;
    let compiled = definition::read(&app, &deed).await?;
    if compiled.definition.name != name {
        let detail = format!("the definition is named `{}`, the address `{name}`", compiled.definition.name);
        return Err(Problem::body(format!("{}/name", compiled.base), detail));
    }
    let revision = expected_revision(&app, &deed.caller, name, wanted).await?;
    let precondition = Precondition::Revision(revision);
    publish::put(&app, &deed, compiled, precondition).await
}

/// Hide a workflow
///
/// It can no longer be started. Its versions stay for the runs that began with them.
#[utoipa::path(delete, path = "/v1/workflows/{name}", operation_id = "delete_workflow", tag = "workflows",
    params(
        ("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"),
        ("If-Match" = String, Header, description = "The `ETag` that was read, or `*`.", pattern = r#"^(\*|"[0-9]{1,9}")$"#),
    ),
    responses((status = 204, description = "It is hidden."), NotFound, PreconditionFailed, PreconditionRequired))]
pub(crate) async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
    headers: HeaderMap,
) -> Result<StatusCode> {
    query.finish()?;
    let name = at.get("name");
    let wanted = if_match(&headers)?.ok_or_else(precondition_required)?;
    let revision = expected_revision(&app, &caller, name, wanted).await?;
    let (tenant, store, name) = (caller.tenant, app.store.clone(), name.to_owned());
    match to_the_end(async move { store.delete_workflow(tenant, &name, Some(revision)).await }).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(Problem::not_found("workflow")),
        Err(WriteError::Moved) => Err(precondition_failed()),
        Err(other) => Err(other.into()),
    }
}

async fn expected_revision(app: &App, caller: &Caller, name: &str, wanted: Wanted) -> Result<u32> {
    wanted.of(load(app, caller, name).await?.revision)
}

async fn load(app: &App, caller: &Caller, name: &str) -> Result<WorkflowRow> {
    let row = app.store.get_workflow(caller.tenant, name).await?;
    row.ok_or_else(|| Problem::not_found("workflow"))
}

pub(crate) fn raw(spec: String) -> Result<Box<RawValue>> {
    RawValue::from_string(spec).map_err(|error| StoreError::Damaged(error.to_string()).into())
}
