//! Schedules: runs that start by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use windlass_model::schedule::{CATCH_UP_DEFAULT, CRON_CHARS_MAX, CronClock, Overlap, ScheduleSpec};
use windlass_model::time::{parse_duration, show_duration};
use windlass_model::workflow::validate::is_workflow_name;
use windlass_model::{Priority, RunId, TenantId, Timestamp};
use windlass_store::{NewSchedule, Precondition, ScheduleRow, StoreError, WriteError};

use super::callees::ListParams;
use super::commands::Nothing;
use super::workflow_runs::create::{
    PriorityWord, check_inputs, labels_schema, look_up_published, read_labels,
};
use super::workflows::{answered_meanwhile, contended};
use crate::actor::Caller;
use crate::app::{App, Shared, to_the_end};
use crate::idempotency::Deed;
use crate::openapi::{NotFound, PreconditionFailed, PreconditionRequired};
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::query::{At, Query};
use crate::revision::{etag, if_match, if_none_match, precondition_failed, precondition_required};
use crate::view::priority;

/// How often a change is tried anew when others change the same schedule at the same moment.
const TRIES_MAX: usize = 20;
/// How often a trigger looks whether a worker has seen to a time that came before: three sweeps in all.
const DUE_LOOK_EVERY: Duration = Duration::from_millis(150);
/// Times to come that an answer names.
const NEXT_SHOWN: usize = 5;

/// What starts, and when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSchedule, example = json!({"name": "nightly", "workflow": "report", "cron": "30 2 * * *", "time_zone": "Europe/Berlin"}))]
pub(crate) struct ScheduleBody {
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,62}$")]
    name: String,
    /// Name of a published workflow, alone for its latest version at that time or as `name@version`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,62}(@[1-9][0-9]{0,8})?$")]
    workflow: String,
    /// Minute, hour, day of the month, month and day of the week, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schema(min_length = 1, max_length = 200)]
    cron: String,
    /// IANA name of the zone whose clocks count; `UTC` when left out.
    #[schema(min_length = 1, max_length = 64)]
    time_zone: Option<String>,
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    #[schema(schema_with = labels_schema)]
    labels: Option<BTreeMap<String, String>>,
    #[schema(value_type = Option<PriorityWord>)]
    priority: Option<Priority>,
    /// What becomes of a time that comes while the run before is still under way.
    #[schema(value_type = Option<OverlapWord>)]
    overlap: Option<Overlap>,
    /// Times that nobody was there for are made up for when they are no older than this span.
    #[schema(min_length = 1, max_length = 64, default = "1h")]
    catch_up: Option<String>,
    #[serde(default)]
    paused: bool,
}

#[derive(ToSchema)]
#[schema(as = Overlap, rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the model's overlaps")]
pub(crate) enum OverlapWord {
    Skip,
    Queue,
    CancelRunning,
    Allow,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleView {
    name: String,
    /// One more at every change; in quotes it is the `ETag`.
    #[schema(minimum = 1)]
    revision: u32,
    workflow: String,
    cron: String,
    time_zone: String,
    #[schema(value_type = Object)]
    inputs: Map<String, Value>,
    labels: BTreeMap<String, String>,
    #[schema(schema_with = priority)]
    priority: Priority,
    #[schema(value_type = OverlapWord)]
    overlap: Overlap,
    /// As it may be sent: `1h`.
    catch_up: String,
    paused: bool,
    /// When its time comes next; null when it is paused.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_at: Option<Timestamp>,
    /// The next five times; none when it is paused.
    #[schema(value_type = Vec<String>)]
    next: Vec<Timestamp>,
    /// The last of its times that has come.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_at: Option<Timestamp>,
    /// The last run that it has started.
    #[schema(value_type = Option<String>, format = Uuid, required)]
    last_run_id: Option<RunId>,
    /// Why no run was started at `last_at`.
    #[schema(required)]
    last_problem: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl ScheduleView {
    fn of(row: ScheduleRow) -> Result<Self> {
        let spec: ScheduleSpec = read_spec(&row)?;
        let rest = |clock: CronClock| {
            let later = row.next_at.into_iter().flat_map(move |at| clock.following(at, NEXT_SHOWN - 1));
            later.collect::<Vec<_>>()
        };
        let later = spec.clock().map(rest).unwrap_or_default();
        let next = row.next_at.into_iter().chain(later).collect();
        let ScheduleSpec { workflow, cron, time_zone, inputs, labels, priority, overlap, catch_up_ms } = spec;
        Ok(Self {
            name: row.name,
            revision: row.revision,
            workflow,
            cron,
            time_zone,
            inputs,
            labels,
            priority,
            overlap,
            catch_up: show_duration(Duration::from_millis(catch_up_ms)),
            paused: row.is_paused,
            next_at: row.next_at,
            next,
            last_at: row.last_at,
            last_run_id: row.last_run_id,
            last_problem: row.last_problem,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn read_spec(row: &ScheduleRow) -> Result<ScheduleSpec> {
    let damaged = |error: serde_json::Error| StoreError::Damaged(format!("schedule {}: {error}", row.name));
    Ok(serde_json::from_str(&row.spec).map_err(damaged)?)
}

/// List schedules, by name
#[utoipa::path(get, path = "/v1/schedules", operation_id = "list_schedules", tag = "schedules",
    params(ListParams), responses((status = 200, description = "A page of schedules.", body = Page<ScheduleView>)))]
pub(crate) async fn list(State(app): State<Shared>, caller: Caller, mut query: Query) -> Result<Response> {
    let limit = query.limit()?;
    let cursor = query.one("cursor")?;
    query.finish()?;
    let list = app.list(caller.tenant, "schedules", String::new());
    let after = cursor.map(|cursor| list.open(&cursor, |name| Some(name.to_owned()))).transpose()?;
    let rows = app.store.list_schedules(caller.tenant, after.as_deref(), limit + 1).await?;
    let page = Page::of(rows, limit, &list, |row| row.name.clone(), ScheduleView::of);
    let items = page.items.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Json(Page { items, next_cursor: page.next_cursor }).into_response())
}

/// Make a schedule, or change it
///
/// With `If-None-Match: *` it is only made, never changed. A change counts from now on.
#[utoipa::path(post, path = "/v1/schedules", operation_id = "post_schedule", tag = "schedules",
    params(("If-None-Match" = Option<String>, Header, description = "`*`: refuse when there is one of this name.", pattern = r"^\*$")),
    request_body(content = ScheduleBody),
    responses(
        (status = 201, description = "The schedule was made.", body = ScheduleView,
            headers(("Location" = String, description = "The schedule."), ("ETag" = String))),
        (status = 200, description = "The schedule existed; it has a new revision unless nothing changed.", body = ScheduleView,
            headers(("ETag" = String))),
        PreconditionFailed,
    ))]
pub(crate) async fn post(
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
    for _ in 0..TRIES_MAX {
        // Each time anew: the time that it would wait for may have come.
        let new = read(&app, &deed).await?;
        let before = app.store.get_schedule(new.tenant, &new.name).await?;
        let precondition = match &before {
            Some(_) if only_new => return Err(precondition_failed()),
            Some(row) => Precondition::Revision(row.revision),
            None => Precondition::Absent,
        };
        let new = NewSchedule { precondition, ..new };
        match write_once(&app, &deed, new, before.as_ref()).await {
            Ok(written) => return answer(written),
            Err(WriteError::Moved) => tokio::task::yield_now().await,
            Err(WriteError::KeyTaken) => return answered_meanwhile(&app, &deed).await,
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

/// Read a schedule
#[utoipa::path(get, path = "/v1/schedules/{name}", operation_id = "get_schedule", tag = "schedules",
    params(("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$")),
    responses((status = 200, description = "The schedule.", body = ScheduleView, headers(("ETag" = String))), NotFound))]
pub(crate) async fn get(State(app): State<Shared>, caller: Caller, at: At, query: Query) -> Result<Response> {
    query.finish()?;
    answer((load(&app, caller.tenant, at.get("name")).await?, false))
}

/// Change a schedule
///
/// The body must carry the name in the address. `If-Match` says which revision is changed.
#[utoipa::path(put, path = "/v1/schedules/{name}", operation_id = "put_schedule", tag = "schedules",
    params(
        ("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"),
        ("If-Match" = String, Header, description = "The `ETag` that was read, or `*`.", pattern = r#"^(\*|"[0-9]{1,9}")$"#),
    ),
    request_body(content = ScheduleBody),
    responses(
        (status = 200, description = "The schedule was changed.", body = ScheduleView, headers(("ETag" = String))),
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
    let wanted = if_match(&headers)?.ok_or_else(precondition_required)?;
    for _ in 0..TRIES_MAX {
        let new = read(&app, &deed).await?;
        if new.name != at.get("name") {
            let detail = format!("the schedule is named `{}`, the address `{}`", new.name, at.get("name"));
            return Err(Problem::body("/name", detail));
        }
        let before = load(&app, new.tenant, &new.name).await?;
        let precondition = Precondition::Revision(wanted.of(before.revision)?);
        match write(&app, NewSchedule { precondition, ..new }).await {
            Ok(written) => return answer(written),
            // Somebody has changed it, which the next look says; or its time has come just then.
            Err(WriteError::Moved) => tokio::task::yield_now().await,
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

/// Delete a schedule
///
/// Runs that it has started go on.
#[utoipa::path(delete, path = "/v1/schedules/{name}", operation_id = "delete_schedule", tag = "schedules",
    params(
        ("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$"),
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
    query.finish()?;
    let wanted = if_match(&headers)?.ok_or_else(precondition_required)?;
    let row = load(&app, caller.tenant, at.get("name")).await?;
    let revision = wanted.of(row.revision)?;
    let (store, tenant) = (app.store.clone(), caller.tenant);
    match to_the_end(async move { store.delete_schedule(tenant, &row.name, Some(revision)).await }).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(Problem::not_found("schedule")),
        Err(WriteError::Moved) => Err(precondition_failed()),
        Err(other) => Err(other.into()),
    }
}

/// Pause a schedule
///
/// Its times pass, and nothing starts.
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", operation_id = "pause_schedule", tag = "schedules",
    params(("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$")), request_body(content = Option<Nothing>),
    responses((status = 200, description = "It is paused.", body = ScheduleView, headers(("ETag" = String))), NotFound))]
pub(crate) async fn pause(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let _: Nothing = deed.json_or_nothing()?;
    change(&app, &deed, at.get("name"), |new, _, _| {
        new.is_paused = true;
        new.next_at = None;
        true
    })
    .await
}

/// Let a paused schedule go on
///
/// Its next time is the first one from now on.
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", operation_id = "resume_schedule", tag = "schedules",
    params(("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$")), request_body(content = Option<Nothing>),
    responses((status = 200, description = "It goes on.", body = ScheduleView, headers(("ETag" = String))), NotFound))]
pub(crate) async fn resume(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let _: Nothing = deed.json_or_nothing()?;
    change(&app, &deed, at.get("name"), |new, clock, now| {
        if std::mem::take(&mut new.is_paused) {
            new.next_at = clock.after(now);
        }
        true
    })
    .await
}

/// Let the time of a schedule come now
///
/// A run starts as at any of its times, within moments; `last_run_id` names it then. The times to come stay what they
/// are, and a paused schedule stays paused.
#[utoipa::path(post, path = "/v1/schedules/{name}/trigger", operation_id = "trigger_schedule", tag = "schedules",
    params(("name" = String, Path, pattern = "^[a-z][a-z0-9_-]{0,62}$")), request_body(content = Option<Nothing>),
    responses((status = 200, description = "Its time has come.", body = ScheduleView, headers(("ETag" = String))), NotFound))]
pub(crate) async fn trigger(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let _: Nothing = deed.json_or_nothing()?;
    // The time that follows this one is the one that would have come next. One that has come, by the clock or by somebody
    // else's wish, has its run first: else this one would take its place.
    change(&app, &deed, at.get("name"), |new, _, now| {
        let is_due = new.next_at.is_some_and(|at| at <= now);
        new.is_triggered = true;
        new.next_at = Some(now);
        !is_due
    })
    .await
}

/// `how` says whether it can be done now, or has to wait for a worker.
async fn change(
    app: &Shared,
    deed: &Deed,
    name: &str,
    how: impl Fn(&mut NewSchedule, &CronClock, Timestamp) -> bool,
) -> Result<Response> {
    if let Some(answer) = deed.answered_before(app).await? {
        return Ok(answer);
    }
    for _ in 0..TRIES_MAX {
        let before = load(app, deed.caller.tenant, name).await?;
        let clock =
            read_spec(&before)?.clock().map_err(|(field, why)| Problem::body(format!("/{field}"), why))?;
        let mut new = NewSchedule {
            tenant: before.tenant,
            name: before.name.clone(),
            spec: before.spec.clone(),
            is_paused: before.is_paused,
            next_at: before.next_at,
            is_triggered: false,
            precondition: Precondition::Revision(before.revision),
            remember: None,
        };
        if !how(&mut new, &clock, app.now().await?) {
            tokio::time::sleep(DUE_LOOK_EVERY).await;
            continue;
        }
        match write_once(app, deed, new, Some(&before)).await {
            Ok(written) => return answer(written),
            Err(WriteError::Moved) => tokio::task::yield_now().await,
            Err(WriteError::KeyTaken) => return answered_meanwhile(app, deed).await,
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

async fn load(app: &App, tenant: TenantId, name: &str) -> Result<ScheduleRow> {
    // Nothing else can be one, and a database need not be asked about it.
    let found = match is_workflow_name(name) {
        true => app.store.get_schedule(tenant, name).await?,
        false => None,
    };
    found.ok_or_else(|| Problem::not_found("schedule"))
}

/// Keeps the reply along with what is written.
async fn write_once(
    app: &Shared,
    deed: &Deed,
    mut new: NewSchedule,
    before: Option<&ScheduleRow>,
) -> Result<(ScheduleRow, bool), WriteError> {
    let now = app.now().await.map_err(|_| WriteError::Moved)?;
    if let Ok((foreseen, created)) = new.onto(before.map(|row| (row.clone(), false)), now)
        && let Ok(view) = ScheduleView::of(foreseen)
    {
        let location = location(&new.name);
        new.remember = deed.remember(status(created), &view, created.then_some(location.as_str()));
    }
    write(app, new).await
}

async fn write(app: &Shared, new: NewSchedule) -> Result<(ScheduleRow, bool), WriteError> {
    let store = app.store.clone();
    to_the_end(async move { store.put_schedule(new).await }).await
}

fn status(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}

fn location(name: &str) -> String {
    format!("/v1/schedules/{name}")
}

fn answer((row, created): (ScheduleRow, bool)) -> Result<Response> {
    let (tag, at) = (etag(row.revision), location(&row.name));
    let mut response = (status(created), [tag], Json(ScheduleView::of(row)?)).into_response();
    if created {
        let at = HeaderValue::from_str(&at).expect("names of schedules are plain");
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

/// Reads the body; what it starts must be there, and take its inputs.
async fn read(app: &Shared, deed: &Deed) -> Result<NewSchedule> {
    let body: ScheduleBody = deed.json()?;
    if !is_workflow_name(&body.name) {
        let detail = "starts with a small letter and goes on with small letters, digits, `_` and `-`, 63 characters at most";
        return Err(Problem::body("/name", detail));
    }
    if body.cron.chars().count() > CRON_CHARS_MAX {
        return Err(Problem::body("/cron", format!("has more than {CRON_CHARS_MAX} characters")));
    }
    let labels = read_labels(body.labels.unwrap_or_default())?;
    let catch_up = body.catch_up.as_deref().map(parse_duration).transpose();
    let catch_up = catch_up.map_err(|why| Problem::body("/catch_up", why))?.unwrap_or(CATCH_UP_DEFAULT);
    let tenant = deed.caller.tenant;
    let definition = look_up_published(app, tenant, &body.workflow).await?;
    let inputs = body.inputs.unwrap_or_default();
    // Defaults are those of the version that the time finds.
    check_inputs(&definition.plan, inputs.clone())?;
    let spec = ScheduleSpec {
        workflow: body.workflow,
        cron: body.cron,
        time_zone: body.time_zone.unwrap_or_else(|| "UTC".to_owned()),
        inputs,
        labels,
        priority: body.priority.unwrap_or_default(),
        overlap: body.overlap.unwrap_or_default(),
        catch_up_ms: u64::try_from(catch_up.as_millis()).unwrap_or(u64::MAX),
    };
    let clock = spec.clock().map_err(|(field, why)| Problem::body(format!("/{field}"), why))?;
    let next_at = clock.after(app.now().await?);
    if next_at.is_none() {
        return Err(Problem::body("/cron", "names no time that ever comes"));
    }
    Ok(NewSchedule {
        tenant,
        name: body.name,
        spec: serde_json::to_string(&spec).map_err(|error| Problem::internal(&error))?,
        is_paused: body.paused,
        next_at: next_at.filter(|_| !body.paused),
        is_triggered: false,
        precondition: Precondition::None,
        remember: None,
    })
}
