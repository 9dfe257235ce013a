//! Runs: start them, find them, look at them.

pub(crate) mod create;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa::IntoParams;
use windlass_model::payload::PAYLOAD_BYTES_MAX;
use windlass_model::workflow::validate::{ID_CHARS_MAX, NAME_CHARS_MAX};
use windlass_model::{Payload, RunStatus, TenantId, Timestamp};
use windlass_store::RunFilter;

use crate::actor::Caller;
use crate::app::{App, Folded, Shared};
use crate::body::DEPTH_MAX;
use crate::openapi::NotFound;
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::query::{At, Query, parse_run_id};
use crate::view::{RunSummary, RunView};
use crate::wait::{read_wait, wait_for_rest};

/// Values of a run that are fetched from the blob store for one answer, in bytes.
const PAYLOADS_BYTES_MAX: u64 = 2 * PAYLOAD_BYTES_MAX as u64;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `list` takes")]
pub(crate) struct ListParams {
    /// Runs with this status; repeat it for several.
    #[param(schema_with = statuses, explode = true)]
    status: Option<Vec<String>>,
    /// Runs of the workflow with exactly this name.
    #[param(pattern = "^[a-z][a-z0-9_-]{0,62}([.][A-Za-z0-9_-]+)*$")]
    workflow: Option<String>,
    /// Runs that steps of this run have started.
    #[param(format = Uuid)]
    parent: Option<String>,
    /// `key:value`; repeat it to ask for several labels at once.
    #[param(schema_with = labels, explode = true)]
    label: Option<Vec<String>>,
    #[param(format = DateTime)]
    created_after: Option<String>,
    #[param(format = DateTime)]
    created_before: Option<String>,
    /// Part of the workflow's name, the run's id, a label's value or the error's type. Case is ignored.
    #[param(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    text: Option<String>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

fn statuses() -> utoipa::openapi::schema::Array {
    utoipa::openapi::schema::ArrayBuilder::new().items(crate::view::run_status()).max_items(Some(64)).build()
}

fn labels() -> utoipa::openapi::schema::Array {
    let label = utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .pattern(Some("^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}:[^\\u0000-\\u001f\\u007f-\\u009f]{0,255}$"))
        .build();
    utoipa::openapi::schema::ArrayBuilder::new().items(label).max_items(Some(64)).build()
}

/// List runs, newest first
#[utoipa::path(get, path = "/v1/workflow-runs", operation_id = "list_runs", tag = "runs", params(ListParams),
    responses((status = 200, description = "A page of runs, without payloads and steps.", body = Page<RunSummary>)))]
pub(crate) async fn list(State(app): State<Shared>, caller: Caller, mut query: Query) -> Result<Response> {
    let filter = read_filter(&mut query)?;
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let list = app.list(caller.tenant, "runs", format!("{filter:?}"));
    let before = cursor.map(|cursor| list.open(&cursor, parse_run_id)).transpose()?;
    let rows = app.store.list_runs(caller.tenant, &filter, before, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, &list, |row| row.id.to_string(), RunSummary::from)).into_response())
}

/// The workflow of a body has the names of all nodes around it in its own, as deep as a definition may be.
const WORKFLOW_CHARS_MAX: usize = NAME_CHARS_MAX + DEPTH_MAX * (ID_CHARS_MAX + 1);

/// The parameters that choose runs.
pub(crate) fn read_filter(query: &mut Query) -> Result<RunFilter> {
    let statuses = query.many("status")?.into_iter().map(|text| {
        let all = RunStatus::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ");
        RunStatus::parse(&text).ok_or_else(|| Problem::parameter("status", format!("must be one of {all}")))
    });
    let statuses = statuses.collect::<Result<_>>()?;
    let labels = query.many("label")?.into_iter().map(|text| {
        let (key, value) =
            text.split_once(':').ok_or_else(|| Problem::parameter("label", "must be `key:value`"))?;
        create::check_label(key, value).map_err(|why| Problem::parameter("label", why))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    let labels = labels.collect::<Result<_>>()?;
    let moment = |text: &str| {
        text.parse::<Timestamp>().map_err(|_| "must be a time such as 2026-11-20T12:00:00Z".to_owned())
    };
    Ok(RunFilter {
        statuses,
        labels,
        workflow: query.read("workflow", |text| match text.len() {
            1..=WORKFLOW_CHARS_MAX => Ok(text.to_owned()),
            _ => Err("is not the name of a workflow".to_owned()),
        })?,
        parent: query
            .read("parent", |text| parse_run_id(text).ok_or_else(|| "must be the id of a run".to_owned()))?,
        created_after: query.read("created_after", moment)?,
        created_before: query.read("created_before", moment)?,
        text: query.search()?,
    })
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `get` takes")]
pub(crate) struct GetParams {
    /// Wait this long for the run to end, or to begin to need a person, before answering. `0s` to `60s`.
    #[param(pattern = "^([0-9]|[1-5][0-9]|60)s$")]
    wait: Option<String>,
    /// `full`: values above 64 KiB are fetched and shown instead of their references, up to 16 MiB in all.
    #[param(schema_with = payloads)]
    payloads: Option<String>,
}

fn payloads() -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(["full"]))
        .build()
}

/// Read a run with all its steps
#[utoipa::path(get, path = "/v1/workflow-runs/{id}", operation_id = "get_run", tag = "runs",
    params(("id" = Uuid, Path), GetParams),
    responses((status = 200, description = "The run as it is now.", body = RunView), NotFound))]
pub(crate) async fn get(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    mut query: Query,
) -> Result<Response> {
    let wait = query.read("wait", read_wait)?;
    let in_full = query.read("payloads", |text| match text {
        "full" => Ok(()),
        _ => Err("must be `full`".to_owned()),
    })?;
    query.finish()?;
    let run_id = at.run_id()?;
    let row = app.get_run(caller.tenant, run_id).await?;
    if let Some(wait) = wait.filter(|wait| !wait.is_zero() && !row.status.is_terminal()) {
        let news = app.bus.subscribe(run_id).await;
        wait_for_rest(&app, caller.tenant, run_id, news, wait).await;
    }
    let mut run = app.fold_run(caller.tenant, run_id).await?;
    if in_full.is_some() {
        fetch_payloads(&app, caller.tenant, &mut run).await?;
    }
    Ok(Json(run.view()).into_response())
}

/// Puts values in the place of references, in the order of the definition, as far as the bound allows.
async fn fetch_payloads(app: &App, tenant: TenantId, run: &mut Folded) -> Result<()> {
    let state = &mut run.state;
    let outputs = state.steps.iter_mut().map(|step| &mut step.output);
    let mut room = PAYLOADS_BYTES_MAX;
    let fitting = [&mut state.inputs, &mut state.output].into_iter().chain(outputs).filter(|payload| {
        let size = payload.missing().map(|blob| blob.size_bytes).filter(|size| *size <= room);
        room -= size.unwrap_or(0);
        size.is_some()
    });
    for payload in fitting {
        *payload = read_payload(app, tenant, payload).await?;
    }
    Ok(())
}

/// A value with its content at hand, wherever it lies.
pub(crate) async fn read_payload(app: &App, tenant: TenantId, payload: &Payload) -> Result<Payload> {
    let Some(blob) = payload.missing() else { return Ok(payload.clone()) };
    let content = app.get_blob(tenant, &blob.digest).await?;
    let value: serde_json::Value = serde_json::from_slice(&content)
        .map_err(|error| windlass_store::StoreError::Damaged(format!("blob {}: {error}", blob.digest)))?;
    Ok(Payload::from(value))
}
