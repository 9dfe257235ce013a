//! Versions of a workflow, and pictures of them.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use windlass_model::plan::Part;
use windlass_model::workflow::graph;
use windlass_model::{Digest, Plan, Timestamp};
use windlass_store::VersionRow;

use crate::actor::Caller;
use crate::app::{App, Shared};
use crate::openapi::NotFound;
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::query::{At, Query, number_within};

/// A version in a list: without its definition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionSummary {
    name: String,
    #[schema(minimum = 1)]
    version: u32,
    #[schema(value_type = String)]
    hash: Digest,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A published definition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    #[serde(flatten)]
    summary: VersionSummary,
    #[schema(value_type = crate::openapi::Definition)]
    spec: Box<RawValue>,
}

fn summary(row: &VersionRow) -> VersionSummary {
    VersionSummary {
        name: row.name.clone(),
        version: row.version.unwrap_or_default(),
        hash: row.hash.clone(),
        created_at: row.created_at,
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `list` takes")]
pub(crate) struct ListParams {
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List the versions of a workflow, newest first
#[utoipa::path(get, path = "/v1/workflows/{name}/versions", operation_id = "list_versions", tag = "workflows",
    params(("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"), ListParams),
    responses((status = 200, description = "A page of versions.", body = Page<VersionSummary>), NotFound))]
pub(crate) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    mut query: Query,
) -> Result<Response> {
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let name = at.get("name");
    let list = app.list(caller.tenant, "versions", name.to_owned());
    let before = cursor.map(|cursor| list.open(&cursor, |text| text.parse().ok())).transpose()?;
    let rows = app.store.list_versions(caller.tenant, name, before, limit + 1).await?;
    let rows = rows.ok_or_else(|| Problem::not_found("workflow"))?;
    let position = |row: &VersionRow| row.version.unwrap_or_default().to_string();
    Ok(Json(Page::of(rows, limit, &list, position, |row| summary(&row))).into_response())
}

/// Read one version of a workflow
#[utoipa::path(get, path = "/v1/workflows/{name}/versions/{version}", operation_id = "get_version", tag = "workflows",
    params(
        ("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"),
        ("version" = u32, Path, minimum = 1),
    ),
    responses((status = 200, description = "The version with its definition.", body = Version), NotFound))]
pub(crate) async fn get(State(app): State<Shared>, caller: Caller, at: At, query: Query) -> Result<Response> {
    query.finish()?;
    let row = load(&app, &caller, &at, Some(version_of(&at)?)).await?;
    let view = Version { summary: summary(&row), spec: super::raw(row.spec)? };
    Ok(Json(view).into_response())
}

/// A definition as a picture.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Graph {
    name: String,
    nodes: Vec<GraphNode>,
    edges: Vec<GraphEdge>,
    /// Ids of the nodes that can run side by side, layer by layer.
    groups: Vec<Vec<String>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GraphNode {
    id: String,
    kind: String,
    /// The node that this one undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    compensates: Option<String>,
    /// The node that this one does in another way, should it fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct GraphEdge {
    from: String,
    to: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameter that `draw` takes")]
pub(crate) struct GraphParams {
    #[param(schema_with = formats)]
    format: Option<String>,
}

fn formats() -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(["json", "mermaid", "dot"]))
        .default(Some("json".into()))
        .build()
}

/// Draw the latest version of a workflow
#[utoipa::path(get, path = "/v1/workflows/{name}/graph", operation_id = "get_graph", tag = "workflows",
    params(("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"), GraphParams),
    responses((status = 200, description = "The graph, as JSON, Mermaid or DOT.", content(
        (Graph = "application/json"), (String = "text/vnd.mermaid"), (String = "text/vnd.graphviz"))), NotFound))]
pub(crate) async fn graph_of_latest(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
) -> Result<Response> {
    draw(&app, &caller, &at, query, None).await
}

/// Draw one version of a workflow
#[utoipa::path(get, path = "/v1/workflows/{name}/versions/{version}/graph", operation_id = "get_version_graph", tag = "workflows",
    params(
        ("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"),
        ("version" = u32, Path, minimum = 1),
        GraphParams,
    ),
    responses((status = 200, description = "The graph, as JSON, Mermaid or DOT.", content(
        (Graph = "application/json"), (String = "text/vnd.mermaid"), (String = "text/vnd.graphviz"))), NotFound))]
pub(crate) async fn graph(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
) -> Result<Response> {
    let version = version_of(&at)?;
    draw(&app, &caller, &at, query, Some(version)).await
}

async fn draw(
    app: &App,
    caller: &Caller,
    at: &At,
    mut query: Query,
    version: Option<u32>,
) -> Result<Response> {
    let format = query.read("format", |text| match text {
        "json" | "mermaid" | "dot" => Ok(text.to_owned()),
        _ => Err("must be `json`, `mermaid` or `dot`".to_owned()),
    })?;
    query.finish()?;
    let row = load(app, caller, at, version).await?;
    let plan = app.plans.of(&row)?;
    Ok(match format.as_deref() {
        Some("mermaid") => {
            ([(header::CONTENT_TYPE, "text/vnd.mermaid; charset=utf-8")], graph::mermaid(&plan))
                .into_response()
        }
        Some("dot") => {
            ([(header::CONTENT_TYPE, "text/vnd.graphviz; charset=utf-8")], graph::dot(&plan)).into_response()
        }
        _ => Json(as_json(&plan)).into_response(),
    })
}

fn as_json(plan: &Plan) -> Graph {
    let id = |index: &windlass_model::NodeIndex| plan.node(*index).id.clone();
    let edges = plan.nodes.iter().flat_map(|node| {
        node.needs.iter().map(|need| GraphEdge { from: id(&need.node), to: node.id.clone() })
    });
    Graph {
        name: plan.name.clone(),
        nodes: plan
            .nodes
            .iter()
            .filter(|node| !node.is_slice())
            .map(|node| GraphNode {
                id: node.id.clone(),
                kind: node.kind.clone(),
                compensates: match node.part {
                    Part::Compensation { of } => Some(id(&of)),
                    _ => None,
                },
                replaces: match node.part {
                    Part::Fallback { of } => Some(id(&of)),
                    _ => None,
                },
            })
            .collect(),
        edges: edges.collect(),
        groups: plan.groups.iter().map(|group| group.iter().map(id).collect()).collect(),
    }
}

/// What is no version number does not exist.
fn version_of(at: &At) -> Result<u32> {
    number_within(at.get("version"), 1, u32::MAX).map_err(|_| Problem::not_found("version"))
}

async fn load(app: &App, caller: &Caller, at: &At, version: Option<u32>) -> Result<VersionRow> {
    let row = app.store.get_version(caller.tenant, at.get("name"), version).await?;
    row.ok_or_else(|| Problem::not_found(if version.is_some() { "version" } else { "workflow" }))
}
