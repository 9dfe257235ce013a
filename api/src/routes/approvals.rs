//! The inbox: gates over all runs, with what their approvers are shown.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use windlass_model::{Attempt, Digest, EventBody, EventSeq, Payload, RunId, TenantId, Timestamp};
use windlass_store::{ApprovalCursor, ApprovalFilter, ApprovalRow, StoreError};

use crate::actor::Caller;
use crate::app::{App, Shared};
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::query::{Query, parse_run_id};

/// Gates that are looked up at once for one page.
const LOOKUPS_AT_ONCE: usize = 8;

/// A gate, open or decided.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Approval {
    #[schema(value_type = String, format = Uuid)]
    run_id: RunId,
    workflow: String,
    /// Id of the node whose gate it is.
    node: String,
    #[schema(value_type = u16)]
    attempt: Attempt,
    #[schema(schema_with = statuses)]
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    decided_at: Option<Timestamp>,
    /// `user:ada`
    #[schema(required)]
    decided_by: Option<String>,
    /// What the approver is to look at.
    #[schema(value_type = Value)]
    show: Payload,
    /// BLAKE3 of what is shown; send it along to prove what was seen.
    #[schema(value_type = String)]
    digest: Digest,
    /// Who may decide: entries such as `role:editor` or `user:ada`; empty means anyone.
    approvers: Vec<String>,
    /// How many different people must approve.
    min: u32,
    /// Who has approved already, while it is open and others must: `user:ada`.
    granted_by: Vec<String>,
    /// Whether the person who created the run may not decide.
    exclude_requester: bool,
    /// JSON Schema of the form to fill in; null when there is none.
    #[schema(value_type = Option<Value>, required)]
    form: Option<Value>,
}

fn statuses() -> utoipa::openapi::schema::Object {
    words(&["open", "granted", "rejected", "expired", "withdrawn"])
}

fn filters() -> utoipa::openapi::schema::Object {
    words(&["open", "decided", "all"])
}

fn words(all: &[&str]) -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(all.iter().copied()))
        .build()
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `list` takes")]
pub(crate) struct ListParams {
    /// `open` unless said otherwise.
    #[param(schema_with = filters)]
    status: Option<String>,
    /// Only gates of this run.
    #[param(format = Uuid)]
    run: Option<String>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List approvals, oldest request first
#[utoipa::path(get, path = "/v1/approvals", operation_id = "list_approvals", tag = "approvals", params(ListParams),
    responses((status = 200, description = "A page of gates.", body = Page<Approval>)))]
pub(crate) async fn list(State(app): State<Shared>, caller: Caller, mut query: Query) -> Result<Response> {
    let decided = query.read("status", |text| match text {
        "open" => Ok(Some(false)),
        "decided" => Ok(Some(true)),
        "all" => Ok(None),
        _ => Err("must be `open`, `decided` or `all`".to_owned()),
    })?;
    let run_id =
        query.read("run", |text| parse_run_id(text).ok_or_else(|| "must be the id of a run".to_owned()))?;
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let filter = ApprovalFilter { decided: decided.unwrap_or(Some(false)), run_id };
    let list = app.list(caller.tenant, "approvals", format!("{filter:?}"));
    let after = cursor.map(|cursor| list.open(&cursor, read_position)).transpose()?;
    let rows = app.store.list_approvals(caller.tenant, &filter, after, limit + 1).await?;
    let Page { items, next_cursor } = Page::of(rows, limit, &list, position, |row| row);
    let items = stream::iter(items.into_iter().map(|row| look_up(&app, caller.tenant, row)))
        .buffered(LOOKUPS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(Json(Page::<Approval> { items, next_cursor }).into_response())
}

fn position(row: &ApprovalRow) -> String {
    format!("{}.{}.{}", row.requested_at.0, row.run_id, row.seq)
}

fn read_position(text: &str) -> Option<ApprovalCursor> {
    let mut parts = text.split('.');
    let (at, run_id, seq) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ApprovalCursor {
        requested_at: Timestamp(at.parse().ok()?),
        run_id: parse_run_id(run_id)?,
        seq: EventSeq(seq.parse().ok()?),
    })
}

/// The inbox row is narrow; what is shown stands in the log, who may decide in the definition. Who has approved already is
/// folded, and only for gates where several people must.
async fn look_up(app: &App, tenant: TenantId, row: ApprovalRow) -> Result<Approval> {
    let run = app.get_run(tenant, row.run_id).await?;
    let plan = app.plans.get(run.version_id).await?;
    let before = EventSeq(row.seq.0.saturating_sub(1));
    let events = app.store.read_events(tenant, row.run_id, before, 1).await?.unwrap_or_default();
    let Some(EventBody::ApprovalRequested(request)) = events.into_iter().next().map(|event| event.body)
    else {
        return Err(Problem::from(StoreError::Damaged(format!("event {} of run {}", row.seq, row.run_id))));
    };
    let node = plan.find(&row.node);
    let gate = node.and_then(|node| node.spec_of(request.rule.as_deref()));
    let granted_by = match (node, gate) {
        (Some(node), Some(gate)) if gate.min > 1 && row.decision.is_none() => {
            let run = app.fold_run(tenant, row.run_id).await?;
            let open = run.state.step(node.index).gate.as_ref().filter(|open| open.attempt == row.attempt);
            open.into_iter().flat_map(|open| &open.grants).map(|grant| grant.by.to_string()).collect()
        }
        _ => Vec::new(),
    };
    Ok(Approval {
        run_id: row.run_id,
        workflow: row.workflow,
        node: row.node,
        attempt: row.attempt,
        status: row.decision.map_or("open", |decision| decision.as_str()),
        requested_at: row.requested_at,
        expires_at: row.expires_at,
        decided_at: row.decided_at,
        decided_by: row.decided_by,
        show: request.show,
        digest: request.digest,
        approvers: gate.map(|gate| gate.any_of.clone()).unwrap_or_default(),
        min: gate.map_or(1, |gate| gate.min),
        granted_by,
        exclude_requester: gate.is_some_and(|gate| gate.exclude_requester),
        form: gate.and_then(|gate| gate.form.as_ref()).map(|form| form.source().clone()),
    })
}
