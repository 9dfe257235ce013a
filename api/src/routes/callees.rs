//! What `/v1/tools` and `/v1/agents` have in common: register, read, change, delete.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use windlass_model::callee::CalleeKind;
use windlass_model::workflow::validate::{CALLEES_MAX, is_callee_name};
use windlass_model::workflow::{self, Document, Format};
use windlass_model::{Digest, TenantId, Timestamp};
use windlass_store::{CalleeRow, NewCallee, Precondition, StoreError, WriteError};

use super::workflows::{answered_meanwhile, beside, contended, raw};
use crate::actor::Caller;
use crate::app::{App, Shared, to_the_end};
use crate::body::{self, MediaType};
use crate::idempotency::Deed;
use crate::page::Page;
use crate::problem::{Code, Problem, Result};
use crate::query::{At, Query};
use crate::revision::{etag, if_match, if_none_match, precondition_failed, precondition_required};

/// How often a registration is tried anew when others register the same name at the same moment.
const TRIES_MAX: usize = 20;

/// A tool or an agent as JSON: with `name` and the keys that it has in a definition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalleeBody, example = json!({"spec": example()}))]
pub(crate) struct CalleeBody {
    #[schema(value_type = Object)]
    spec: Map<String, Value>,
}

pub(crate) fn example() -> Value {
    serde_json::json!({
        "name": "stock.count",
        "parameters": { "type": "object", "required": ["sku"] },
        "risk": "low",
        "do": { "type": "http", "with": { "url": "https://stock.example/${{ parameters.sku }}" } }
    })
}

/// What a list shows of a tool or an agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CalleeSummary)]
pub(crate) struct CalleeSummary {
    name: String,
    /// One more at every change; in quotes it is the `ETag`.
    #[schema(minimum = 1)]
    revision: u32,
    /// BLAKE3 of the definition.
    #[schema(value_type = String)]
    hash: Digest,
    /// `low`, `medium` or `high`, when it says so.
    #[schema(required)]
    risk: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// A tool or an agent with its definition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Callee)]
pub(crate) struct CalleeView {
    #[serde(flatten)]
    summary: CalleeSummary,
    #[schema(value_type = Object)]
    spec: Box<RawValue>,
}

/// What a registration has done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Registered {
    name: String,
    /// In quotes it is the `ETag`.
    #[schema(minimum = 1)]
    revision: u32,
    #[schema(value_type = String)]
    hash: Digest,
    /// Whether there was none of this name before.
    created: bool,
    /// False when it was registered like this already.
    changed: bool,
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

impl From<CalleeRow> for CalleeSummary {
    fn from(row: CalleeRow) -> Self {
        let CalleeRow { name, revision, hash, risk, created_at, updated_at } = row;
        Self { name, revision, hash, risk, created_at, updated_at }
    }
}

/// Makes what a definition calls, and does not hold, a part of it.
pub(crate) async fn bring_along(app: &App, tenant: TenantId, document: &mut Document) -> Result<()> {
    let missing = document.missing_callees();
    for (kind, name) in missing.into_iter().filter(|(_, name)| is_callee_name(name)).take(CALLEES_MAX) {
        if let Some((_, spec)) = app.store.get_callee(tenant, kind, &name).await? {
            let spec = serde_json::from_str(&spec).map_err(|error| StoreError::Damaged(error.to_string()))?;
            document.bring(kind, &name, spec);
        }
    }
    Ok(())
}

pub(super) async fn list(
    app: &Shared,
    kind: CalleeKind,
    caller: &Caller,
    mut query: Query,
) -> Result<Response> {
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let list = app.list(caller.tenant, kind.plural(), String::new());
    let after = cursor.map(|cursor| list.open(&cursor, |name| Some(name.to_owned()))).transpose()?;
    let rows = app.store.list_callees(caller.tenant, kind, after.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(rows, limit, &list, |row| row.name.clone(), CalleeSummary::from)).into_response())
}

pub(super) async fn register(
    app: &Shared,
    kind: CalleeKind,
    query: Query,
    headers: &HeaderMap,
    deed: &Deed,
) -> Result<Response> {
    query.finish()?;
    let only_new = if_none_match(headers)?;
    if let Some(answer) = deed.answered_before(app).await? {
        return Ok(answer);
    }
    let (new, _) = read(app, kind, deed).await?;
    for _ in 0..TRIES_MAX {
        let before = app.store.get_callee(new.tenant, kind, &new.name).await?.map(|(row, _)| row);
        let precondition = match &before {
            Some(_) if only_new => return Err(precondition_failed()),
            Some(row) => Precondition::Revision(row.revision),
            None => Precondition::Absent,
        };
        let foreseen = foresee(&new, before);
        let location = location(kind, &foreseen);
        let remember = deed.remember(status(&foreseen), &foreseen, location.as_deref());
        match write(app, NewCallee { precondition, remember, ..new.clone() }).await {
            Ok(registered) => return Ok(answer(kind, &registered)),
            Err(WriteError::Moved) => tokio::task::yield_now().await,
            Err(WriteError::KeyTaken) => return answered_meanwhile(app, deed).await,
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

fn foresee(new: &NewCallee, before: Option<CalleeRow>) -> Registered {
    let changed = before.as_ref().is_none_or(|row| row.hash != new.hash);
    Registered {
        name: new.name.clone(),
        revision: before.as_ref().map_or(0, |row| row.revision) + u32::from(changed),
        hash: new.hash.clone(),
        created: before.is_none(),
        changed,
    }
}

async fn write(app: &Shared, new: NewCallee) -> Result<Registered, WriteError> {
    let store = app.store.clone();
    let put = to_the_end(async move { store.put_callee(new).await }).await?;
    let CalleeRow { name, revision, hash, .. } = put.callee;
    Ok(Registered { name, revision, hash, created: put.created, changed: put.changed })
}

fn status(registered: &Registered) -> StatusCode {
    if registered.created { StatusCode::CREATED } else { StatusCode::OK }
}

/// Where to find what was made.
fn location(kind: CalleeKind, registered: &Registered) -> Option<String> {
    registered.created.then(|| format!("/v1/{}/{}", kind.plural(), registered.name))
}

fn answer(kind: CalleeKind, registered: &Registered) -> Response {
    let tag = etag(registered.revision);
    let mut response = (status(registered), [tag], Json(registered)).into_response();
    if let Some(location) = location(kind, registered) {
        let location = HeaderValue::from_str(&location).expect("names of callees are plain");
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

pub(super) async fn get(
    app: &Shared,
    kind: CalleeKind,
    caller: &Caller,
    at: &At,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let (row, spec) = load(app, kind, caller, at.get("name")).await?;
    let tag = etag(row.revision);
    Ok(([tag], Json(CalleeView { summary: row.into(), spec: raw(spec)? })).into_response())
}

pub(super) async fn put(
    app: &Shared,
    kind: CalleeKind,
    at: &At,
    query: Query,
    headers: &HeaderMap,
    deed: &Deed,
) -> Result<Response> {
    query.finish()?;
    let name = at.get("name");
    let wanted = if_match(headers)?.ok_or_else(precondition_required)?;
    let (new, base) = read(app, kind, deed).await?;
    if new.name != name {
        let detail = format!("the definition is named `{}`, the address `{name}`", new.name);
        return Err(Problem::body(format!("{base}/name"), detail));
    }
    let revision = wanted.of(load(app, kind, &deed.caller, name).await?.0.revision)?;
    match write(app, NewCallee { precondition: Precondition::Revision(revision), ..new }).await {
        Ok(registered) => Ok(answer(kind, &registered)),
        Err(WriteError::Moved) => Err(precondition_failed()),
        Err(other) => Err(other.into()),
    }
}

pub(super) async fn delete(
    app: &Shared,
    kind: CalleeKind,
    caller: &Caller,
    at: &At,
    query: Query,
    headers: &HeaderMap,
) -> Result<StatusCode> {
    query.finish()?;
    let name = at.get("name");
    let wanted = if_match(headers)?.ok_or_else(precondition_required)?;
    let revision = wanted.of(load(app, kind, caller, name).await?.0.revision)?;
    let (tenant, store, name) = (caller.tenant, app.store.clone(), name.to_owned());
    match to_the_end(async move { store.delete_callee(tenant, kind, &name, Some(revision)).await }).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(Problem::not_found(kind.as_str())),
        Err(WriteError::Moved) => Err(precondition_failed()),
        Err(other) => Err(other.into()),
    }
}

async fn load(app: &App, kind: CalleeKind, caller: &Caller, name: &str) -> Result<(CalleeRow, String)> {
    // Nothing else can be registered, and a database need not be asked about it.
    let found = match is_callee_name(name) {
        true => app.store.get_callee(caller.tenant, kind, name).await?,
        false => None,
    };
    found.ok_or_else(|| Problem::not_found(kind.as_str()))
}

/// Reads the body, `{"spec": …}` as JSON or the definition itself as YAML, and where it stands in there.
async fn read(app: &Shared, kind: CalleeKind, deed: &Deed) -> Result<(NewCallee, &'static str)> {
    let size = deed.bytes.len();
    let (document, base) = match deed.media_type {
        Some(MediaType::Json) => {
            (Document::from_value(Value::Object(deed.json::<CalleeBody>()?.spec)), "/spec")
        }
        Some(MediaType::Yaml) => {
            let text = body::read_text(&deed.bytes)?.to_owned();
            let document = beside(size, move || Document::parse(&text, Format::Yaml)).await?;
            (document.map_err(|problems| Problem::invalid_workflow(problems, ""))?, "")
        }
        None if deed.bytes.is_empty() => {
            let problem = Problem::new(Code::InvalidWorkflow, "There is no definition in the body.");
            return Err(problem.at("", "is empty"));
        }
        _ => return Err(body::refuse_media_type("application/json or application/yaml")),
    };
    let plans = app.plans.clone();
    let (spec, callee) = beside(size, move || {
        let callee = workflow::compile_callee(&document, kind, plans.catalog());
        (document.spec, callee)
    })
    .await?;
    let callee = callee.map_err(|problems| Problem::invalid_workflow(problems, base))?;
    let risk = spec.get("risk").and_then(Value::as_str).map(str::to_owned);
    let spec = spec.to_string();
    let new = NewCallee {
        tenant: deed.caller.tenant,
        kind,
        name: callee.name,
        hash: Digest::of(spec.as_bytes()),
        spec,
        risk,
        precondition: Precondition::None,
        remember: None,
    };
    Ok((new, base))
}
