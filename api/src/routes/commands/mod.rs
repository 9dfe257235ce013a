//! What people ask of a run that is under way. The door records it; the engine concludes what follows.

pub(crate) mod bulk;
mod carry_out;
pub(crate) mod edit;
pub(crate) mod rerun;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use windlass_model::command::Verdict;
use windlass_model::{Attempt, Command, Digest, NodeIndex, Payload, Plan, RunState, StepKey};

use carry_out::carry_out;
use rerun::{Continued, VersionWord};

use crate::app::Shared;
use crate::idempotency::Deed;
use crate::openapi::{Conflict, NotFound};
use crate::problem::{Problem, Result};
use crate::query::{At, Query};
use crate::view::Receipt;

const COMMENT_CHARS_MAX: usize = 4_000;
/// As definitions spell the names of signals.
const SIGNAL_CHARS_MAX: usize = 64;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelBody {
    #[schema(max_length = 4000, pattern = "^[^\\u0000]*$")]
    reason: Option<String>,
}

/// An answer at a gate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerdictBody {
    /// Id of the node whose gate it is.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
    node: String,
    /// The attempt that was looked at. Left out, it is the one whose gate is open now.
    #[schema(value_type = Option<u16>, maximum = 65535)]
    attempt: Option<Attempt>,
    /// Digest of what was shown: proves that it is what was decided about.
    #[schema(min_length = 1, max_length = 128)]
    digest: Option<String>,
    #[schema(max_length = 4000, pattern = "^[^\\u0000]*$")]
    comment: Option<String>,
    /// Checked against the gate's `form`, if it has one.
    form: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryBody {
    /// Id of one node; left out, every failed or interrupted step is tried again.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,95}$")]
    node: Option<String>,
    /// One item of that node, inside a fan-out.
    item: Option<u32>,
    /// Under this version of the workflow, or under the `latest`: as a new run in place of this one, with all that has not
    /// ended well.
    version: Option<VersionWord>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SkipBody {
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,95}$")]
    node: String,
    /// One item of that node, inside a fan-out.
    item: Option<u32>,
}

/// Pause a run
///
/// Steps in flight end; nothing new begins.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/pause", operation_id = "pause_run", tag = "commands",
    params(("id" = Uuid, Path)), request_body(content = Option<Nothing>),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn pause(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let _: Nothing = deed.json_or_nothing()?;
    carry_out(&app, at.run_id()?, &deed, |_, _| Ok(Command::Pause)).await
}

/// Resume a paused run
///
/// Failed and interrupted steps are tried again.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/resume", operation_id = "resume_run", tag = "commands",
    params(("id" = Uuid, Path)), request_body(content = Option<Nothing>),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn resume(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let _: Nothing = deed.json_or_nothing()?;
    carry_out(&app, at.run_id()?, &deed, |_, _| Ok(Command::Resume)).await
}

/// Cancel a run
///
/// After a 200 the run ends as `canceled` and never otherwise.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/cancel", operation_id = "cancel_run", tag = "commands",
    params(("id" = Uuid, Path)), request_body(content = Option<CancelBody>),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn cancel(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let CancelBody { reason } = deed.json_or_nothing()?;
    check_length("/reason", reason.as_deref())?;
    let cancel = |_: &Plan, _: &RunState| Ok(Command::Cancel { reason: reason.clone() });
    carry_out(&app, at.run_id()?, &deed, cancel).await
}

/// Approve at a gate
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/approve", operation_id = "approve", tag = "commands",
    params(("id" = Uuid, Path)), request_body(content = VerdictBody, example = json!({"node": "agree", "attempt": 1})),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn approve(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    decide_gate(&app, &at, query, &deed, Command::Approve).await
}

/// Reject at a gate
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/reject", operation_id = "reject", tag = "commands",
    params(("id" = Uuid, Path)), request_body(content = VerdictBody, example = json!({"node": "agree", "attempt": 1})),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn reject(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    decide_gate(&app, &at, query, &deed, Command::Reject).await
}

/// Try failed or interrupted steps again
///
/// Of a step that has items, only those that have failed or were never begun. Under another `version`, the run is moved to it:
/// a run has one version for good.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/retry", operation_id = "retry_run", tag = "commands",
    params(("id" = Uuid, Path)), request_body(content = Option<RetryBody>),
    responses((status = 200, description = "It is in the log.", body = Receipt),
        (status = 201, description = "Under another version: the new run is in the log.", body = Continued,
            headers(("Location" = String, description = "The new run."))), NotFound, Conflict))]
pub(crate) async fn retry(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let RetryBody { node, item, version } = deed.json_or_nothing()?;
    if let Some(version) = version {
        if node.is_some() || item.is_some() {
            let detail =
                "under another version all that has not ended well is tried again; leave out the node";
            return Err(Problem::body("/version", detail));
        }
        return rerun::move_to(&app, at.run_id()?, &deed, version, false).await;
    }
    let retry = |plan: &Plan, _: &RunState| {
        if node.is_none() && item.is_some() {
            return Err(Problem::body("/item", "an item of which node?"));
        }
        let node = node.as_deref().map(|node| find_step(plan, node, item)).transpose()?;
        Ok(Command::Retry { node })
    };
    carry_out(&app, at.run_id()?, &deed, retry).await
}

/// Go on as if a step need not run
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/skip", operation_id = "skip_step", tag = "commands",
    params(("id" = Uuid, Path)), request_body(content = SkipBody, example = json!({"node": "agree"})),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn skip(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let SkipBody { node, item } = deed.json()?;
    let skip = |plan: &Plan, _: &RunState| Ok(Command::Skip { node: find_step(plan, &node, item)? });
    carry_out(&app, at.run_id()?, &deed, skip).await
}

/// Send a signal
///
/// The body is the payload: any JSON, or nothing, which stands for null.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/signals/{name}", operation_id = "signal_run", tag = "commands",
    params(("id" = Uuid, Path), ("name" = String, Path, pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,63}$")),
    request_body(content = Option<Value>),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn signal(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let run_id = at.run_id()?;
    let name = at.get("name").to_owned();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !first || name.len() > SIGNAL_CHARS_MAX || !name.bytes().all(plain) {
        let bounds = format!("up to {SIGNAL_CHARS_MAX} letters, digits and `_.-`, beginning with a letter");
        return Err(Problem::parameter("name", bounds));
    }
    let payload = if deed.bytes.is_empty() { Value::Null } else { deed.json_value()? };
    let payload = Payload::new(payload);
    let signal =
        |_: &Plan, _: &RunState| Ok(Command::Signal { name: name.clone(), payload: payload.clone() });
    carry_out(&app, run_id, &deed, signal).await
}

async fn decide_gate(
    app: &Shared,
    at: &At,
    query: Query,
    deed: &Deed,
    command: fn(Verdict) -> Command,
) -> Result<Response> {
    query.finish()?;
    let body: VerdictBody = deed.json()?;
    check_length("/comment", body.comment.as_deref())?;
    let form = Payload::new(body.form.unwrap_or_default());
    let verdict = |plan: &Plan, state: &RunState| {
        let node = find_node(plan, &body.node)?;
        let open = state.step(node).gate.as_ref().map(|gate| gate.attempt);
        let verdict = Verdict {
            node,
            attempt: body.attempt.or(open).unwrap_or(1),
            digest: body.digest.clone().map(Digest),
            comment: body.comment.clone(),
            form: form.clone(),
        };
        Ok(command(verdict))
    };
    carry_out(app, at.run_id()?, deed, verdict).await
}

/// An item is there where there are items, and nowhere else.
fn find_step(plan: &Plan, id: &str, item: Option<u32>) -> Result<StepKey> {
    let node = find_node(plan, id)?;
    match (plan.fan_of(node), item) {
        (Some(_), None) => Err(Problem::body("/item", format!("which item of {id:?}?"))),
        (None, Some(_)) => Err(Problem::body("/item", format!("{id:?} has no items"))),
        (Some(_), Some(_)) | (None, None) => Ok(StepKey { node, item }),
    }
}

fn find_node(plan: &Plan, id: &str) -> Result<NodeIndex> {
    plan.find(id).map(|node| node.index).ok_or_else(|| {
        let shown: String = id.chars().take(64).collect();
        Problem::body("/node", format!("the workflow has no node {shown:?}"))
    })
}

fn check_length(pointer: &str, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) if text.chars().count() > COMMENT_CHARS_MAX => {
            Err(Problem::body(pointer, format!("longer than {COMMENT_CHARS_MAX} characters")))
        }
        _ => Ok(()),
    }
}
