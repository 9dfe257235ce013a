//! A run's log: page by page, or live.

use axum::Json;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use windlass_model::{EventSeq, RunId, present};

use crate::actor::Caller;
use crate::app::{App, Shared};
use crate::feed::{Feed, read_event_id};
use crate::openapi::{Forbidden, NotFound, TooMany, UpgradeRequired};
use crate::problem::{Code, Problem, Result};
use crate::query::{At, Query, header_text, parse_run_id};
use crate::view::Envelope;
use crate::{sse, ws};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Runs that one connection may watch.
const WATCHED_RUNS_MAX: usize = 100;

/// Part of a run's log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    #[schema(value_type = Vec<Envelope>)]
    items: Vec<Value>,
    /// Pass it as `after` to read on; null when these were the last events so far.
    #[schema(required)]
    next_after: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `of_run` takes")]
pub(crate) struct EventParams {
    /// Only events after this seq.
    #[param(value_type = Option<u32>, minimum = 0, format = Int64, maximum = 4294967295_i64)]
    after: Option<String>,
    /// Of a JSON page; a stream has no limit.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Read a run's events
///
/// As a page of JSON, or with `Accept: text/event-stream` as a live stream that replays the log first. The
/// stream's `id:` is the event's seq; a client that comes back sends it as `Last-Event-ID` and misses nothing.
/// Progress (`type: run.progress`) has no id and is never replayed. The stream ends after the run's last event;
/// who comes back then gets 204.
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/events", operation_id = "get_events", tag = "events",
    params(("id" = Uuid, Path), EventParams,
        ("Last-Event-ID" = Option<u32>, Header, description = "Of a stream; wins over `after`.", minimum = 0, format = Int64, maximum = 4294967295_i64)),
    responses(
        (status = 200, description = "Events, oldest first.", content((EventPage = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "Of a stream: the run has ended and everything was seen."),
        NotFound, TooMany))]
pub(crate) async fn of_run(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let after = query.one("after")?;
    let limit = query.limit()?;
    query.finish()?;
    let run_id = at.run_id()?;
    let last_event_id = header_text(&headers, &LAST_EVENT_ID, "Last-Event-ID")?;
    if wants_stream(&headers) {
        let after = match last_event_id.or(after.as_deref()) {
            Some(text) => read_event_id(text)?,
            None => EventSeq(0),
        };
        return stream(&app, &caller, &[run_id], vec![after]).await;
    }
    let after = after.as_deref().or(last_event_id).map(read_event_id).transpose()?.unwrap_or_default();
    page(&app, &caller, run_id, after, limit).await
}

async fn page(app: &App, caller: &Caller, run_id: RunId, after: EventSeq, limit: u32) -> Result<Response> {
    let row = app.get_run(caller.tenant, run_id).await?;
    let plan = app.plans.get(row.version_id).await?;
    let events = app.store.read_events(caller.tenant, run_id, after, limit + 1).await?;
    let mut events = events.ok_or_else(|| Problem::not_found("run"))?;
    let is_last = events.len() <= limit as usize;
    events.truncate(limit as usize);
    let page = EventPage {
        next_after: events.last().filter(|_| !is_last).map(|event| event.seq.0),
        items: events.iter().map(|event| present::envelope(&plan, run_id, event)).collect(),
    };
    Ok(Json(page).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|text| text.split(',')).any(|kind| {
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
    })
}

async fn stream(app: &Shared, caller: &Caller, runs: &[RunId], after: Vec<EventSeq>) -> Result<Response> {
    let permit = app.open_stream()?;
    let mut feeds = Vec::with_capacity(runs.len());
    for (place, (run_id, after)) in runs.iter().zip(&after).enumerate() {
        if let Some(feed) = Feed::open(app.clone(), caller.tenant, *run_id, *after).await? {
            feeds.push((place, feed));
        }
    }
    if feeds.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(sse::response(feeds, after, app.closing.clone(), permit))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameter that `over_websocket` takes")]
pub(crate) struct AfterParam {
    /// Only events after this seq.
    #[param(value_type = Option<u32>, minimum = 0, format = Int64, maximum = 4294967295_i64)]
    after: Option<String>,
}

/// Read a run's events over WebSocket
///
/// One JSON message for each event, the same as the data of the event stream. The server pings every 15 seconds
/// and closes with 1000 after the run's last event.
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/events/ws", operation_id = "get_events_over_websocket", tag = "events",
    params(("id" = Uuid, Path), AfterParam),
    responses((status = 101, description = "The events follow."), Forbidden, NotFound, UpgradeRequired, TooMany))]
pub(crate) async fn over_websocket(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    mut query: Query,
    request: Request,
) -> Result<Response> {
    let after = query.read("after", |text| Ok(text.to_owned()))?;
    query.finish()?;
    let after = after.as_deref().map(read_event_id).transpose()?.unwrap_or_default();
    let feed = Feed::open(app.clone(), caller.tenant, at.run_id()?, after).await?;
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|_| {
        Problem::new(Code::UpgradeRequired, "Send the headers of a WebSocket handshake.")
            .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    })?;
    let permit = app.open_stream()?;
    let closing = app.closing.clone();
    Ok(upgrade
        .max_message_size(ws::MESSAGE_BYTES_MAX)
        .max_frame_size(ws::MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| ws::send_events(socket, feed, closing, permit)))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `of_many` takes")]
pub(crate) struct ManyParams {
    /// The `id:` of a frame: of each run the last seq that was seen, joined by dots, in the order of `run`.
    #[param(pattern = r"^[0-9]{1,9}(\.[0-9]{1,9}){0,99}$")]
    after: Option<String>,
}

/// Watch many runs on one connection
///
/// An event stream as that of one run. Its `id:` holds of each run the last seq that was sent, joined by dots, in
/// the order of the `run` parameters: so an `EventSource` that comes back to the same address misses nothing.
#[utoipa::path(get, path = "/v1/events", operation_id = "watch_runs", tag = "events",
    params(
        ("run" = Vec<Uuid>, Query, description = "A run to watch; repeat it for up to 100.", min_items = 1, max_items = 100),
        ManyParams,
        ("Last-Event-ID" = Option<String>, Header, description = "Wins over `after`.", pattern = r"^[0-9]{1,9}(\.[0-9]{1,9}){0,99}$")),
    responses(
        (status = 200, description = "Events of all the runs.", body = String, content_type = "text/event-stream"),
        (status = 204, description = "All the runs have ended and everything was seen."),
        NotFound, TooMany))]
pub(crate) async fn of_many(
    State(app): State<Shared>,
    caller: Caller,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let runs = query.take_up_to("run", WATCHED_RUNS_MAX)?;
    let after = query.one("after")?;
    query.finish()?;
    if runs.is_empty() {
        return Err(Problem::parameter("run", "is required"));
    }
    let runs: Vec<RunId> = runs
        .iter()
        .map(|text| parse_run_id(text).ok_or_else(|| Problem::parameter("run", "must be the id of a run")))
        .collect::<Result<_>>()?;
    let last_event_id = header_text(&headers, &LAST_EVENT_ID, "Last-Event-ID")?;
    let after = match last_event_id.or(after.as_deref()) {
        Some(text) => text.split('.').map(read_event_id).collect::<Result<Vec<_>>>()?,
        None => vec![EventSeq(0); runs.len()],
    };
    if after.len() != runs.len() {
        let detail = "The event id must hold one number for each run, in the order of the `run` parameters.";
        return Err(Problem::new(Code::InvalidCursor, detail));
    }
    stream(&app, &caller, &runs, after).await
}
