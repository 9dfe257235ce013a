//! Rate limits: how many turns of tools, agents and workflows are taken.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::Timestamp;
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, OnLimit};

use super::callees::ListParams;
use crate::actor::Caller;
use crate::app::{Shared, to_the_end};
use crate::openapi::NotFound;
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::query::{At, Query};

/// How often one tool or agent may be called, or runs of one workflow may start, and how much of that is taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RateLimit)]
pub(crate) struct RateLimitView {
    /// `tool`, `agent` or `workflow`.
    kind: &'static str,
    name: String,
    /// Turns in each period, as whoever took the last one has it.
    turns: u32,
    per_ms: u64,
    /// So many may be taken at once.
    burst: u32,
    /// `wait` or `reject`.
    on_limit: &'static str,
    /// Turns that are taken and have not come: as many wait for theirs.
    waiting: u64,
    /// When whoever asked now would have a turn.
    #[schema(value_type = String, format = DateTime)]
    next_at: Timestamp,
}

impl RateLimitView {
    fn of(key: LimitKey, state: LimitState, now: Timestamp) -> Self {
        let limit = state.limit;
        let on_limit = OnLimit::ALL.iter().find(|(_, it)| *it == limit.on_limit);
        Self {
            kind: key.kind.as_str(),
            name: key.name,
            turns: limit.turns,
            per_ms: u64::try_from(limit.per.as_millis()).unwrap_or(u64::MAX),
            burst: limit.burst,
            on_limit: on_limit.map_or("wait", |(word, _)| word),
            waiting: state.waiting(now),
            next_at: state.next_at(now),
        }
    }
}

/// List rate limits, by kind and name
///
/// One that no turn was taken of is not listed.
#[utoipa::path(get, path = "/v1/rate-limits", operation_id = "list_rate_limits", tag = "tools",
    params(ListParams),
    responses((status = 200, description = "A page of rate limits.", body = Page<RateLimitView>)))]
pub(crate) async fn list(State(app): State<Shared>, caller: Caller, mut query: Query) -> Result<Response> {
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let list = app.list(caller.tenant, "rate-limits", String::new());
    let after = cursor.map(|cursor| list.open(&cursor, read_place)).transpose()?;
    let rows = app.store.list_rate_limits(caller.tenant, after, limit + 1).await?;
    let now = app.now().await?;
    let place = |(key, _): &(LimitKey, LimitState)| format!("{}/{}", key.kind.as_str(), key.name);
    Ok(Json(Page::of(rows, limit, &list, place, |(key, state)| RateLimitView::of(key, state, now)))
        .into_response())
}

/// Forget which turns of a rate limit are taken
///
/// For when those who took them are gone: whoever asks from now on need not come after them. Who waits keeps its turn.
#[utoipa::path(delete, path = "/v1/rate-limits/{kind}/{name}", operation_id = "reset_rate_limit", tag = "tools",
    params(
        ("kind" = String, Path, pattern = "^(tool|agent|workflow)$"),
        ("name" = String, Path, pattern = r"^[a-z][a-z0-9_.-]{0,99}$"),
    ),
    responses((status = 204, description = "It has all its turns."), NotFound))]
pub(crate) async fn reset(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
) -> Result<StatusCode> {
    query.finish()?;
    let kind = Limited::parse(at.get("kind")).ok_or_else(|| Problem::not_found("rate limit"))?;
    let key = LimitKey { tenant: caller.tenant, kind, name: at.get("name").to_owned() };
    let store = app.store.clone();
    match to_the_end(async move { Ok(store.reset_rate_limit(key).await?) }).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("rate limit")),
    }
}

fn read_place(text: &str) -> Option<(Limited, String)> {
    let (kind, name) = text.split_once('/')?;
    Some((Limited::parse(kind)?, name.to_owned()))
}
