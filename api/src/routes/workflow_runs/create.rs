//! Starts runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use windlass_bus::Subscription;
use windlass_model::concurrency::OnConflict;
use windlass_model::event::RunCreated;
use windlass_model::rate_limit::{LimitKey, Limited, OnLimit, Turn};
use windlass_model::time::{SPAN_MAX, parse_duration};
use windlass_model::workflow::Document;
use windlass_model::{Payload, Plan, Priority, Ring, RunId, TenantId, Timestamp, decide};
use windlass_store::{Labels, NewRun, Pin, Place, WriteError, occupant, point};

use crate::actor::Caller;
use crate::app::{App, Shared, promptly, to_the_end};
use crate::idempotency::Deed;
use crate::openapi::{Conflict, TooMany};
use crate::problem::{Code, Problem, Result};
use crate::published::Definite;
use crate::query::{Query, number_within};
use crate::routes::workflows::{Compiled, compile, contended};
use crate::view::{CreatedRun, RunSummary};
use crate::wait::{PREFERENCE_APPLIED, preferred_wait, wait_for_rest};

/// Labels that a run may have: each is a row.
pub(crate) const LABELS_MAX: usize = 64;
pub(crate) const LABEL_KEY_CHARS_MAX: usize = 63;
pub(crate) const LABEL_VALUE_CHARS_MAX: usize = 255;
/// How often a workflow may be published anew while a run of it is being started.
const ATTEMPTS_MAX: u32 = 5;

/// What to run, and with what. Either `workflow` or `spec` is required.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRun, example = json!({"spec": crate::view::example_spec(), "inputs": {"name": "Ada"}, "labels": {"team": "docs"}}))]
pub(crate) struct NewRunBody {
    /// Name of a published workflow, alone for its latest version or as `name@version`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,62}(@[1-9][0-9]{0,8})?$")]
    workflow: Option<String>,
    /// A definition, inline.
    #[schema(value_type = Option<crate::openapi::Definition>)]
    spec: Option<Map<String, Value>>,
    /// Checked against the JSON Schema that the definition declares.
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    /// For finding the run again. Up to 64.
    #[schema(schema_with = labels_schema)]
    labels: Option<BTreeMap<String, String>>,
    #[schema(value_type = Option<PriorityWord>)]
    priority: Option<Priority>,
    /// Nothing of the run begins before: a time, or a span from now such as `2h`.
    #[schema(min_length = 1, max_length = 64)]
    start_at: Option<String>,
    /// When the run fails unless it has ended: a time, or a span from now such as `2h`.
    #[schema(min_length = 1, max_length = 64)]
    deadline: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = Priority, rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the model's priorities")]
pub(crate) enum PriorityWord {
    High,
    Normal,
    Low,
}

pub(crate) fn labels_schema() -> utoipa::openapi::schema::Object {
    use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
    let value = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(LABEL_VALUE_CHARS_MAX))
        .pattern(Some("^[^\\u0000-\\u001f\\u007f-\\u009f]*$"))
        .build();
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$"))
        .build();
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .property_names(Some(key))
        .additional_properties(Some(utoipa::openapi::Schema::Object(value)))
        .max_properties(Some(LABELS_MAX))
        .build()
}

/// What is to be run, found and checked.
pub(crate) struct Ordered {
    pub definition: Definite,
    pub workflow: String,
    pub created: RunCreated,
    pub labels: Labels,
    pub priority: Priority,
    pub now: Timestamp,
}

/// Start a run
///
/// With `Prefer: wait=30` the answer comes when the run has ended or begins to need a person, because it is paused or
/// asks for an approval, or after that many seconds, and shows the whole run as it is then.
#[utoipa::path(post, path = "/v1/workflow-runs", operation_id = "create_run", tag = "runs",
    params(("Prefer" = Option<String>, Header, description = "`wait=30`: wait up to that many seconds, at most 60.")),
    request_body(content = NewRunBody),
    responses((status = 201, description = "The run is in the log; an engine will take it.", body = CreatedRun,
        headers(
            ("Location" = String, description = "The run."),
            ("Preference-Applied" = String, description = "With `Prefer: wait`, how long was waited at most: `wait=30`."),
        ),
        links(
            ("get" = (operation_id = "get_run", parameters(("id" = "$response.body#/id")))),
            ("cancel" = (operation_id = "cancel_run", parameters(("id" = "$response.body#/id")))),
            ("pause" = (operation_id = "pause_run", parameters(("id" = "$response.body#/id")))),
            ("approve" = (operation_id = "approve", parameters(("id" = "$response.body#/id")))),
            ("explain" = (operation_id = "explain_run", parameters(("id" = "$response.body#/id")))),
        )), Conflict, TooMany))]
pub(crate) async fn create(
    State(app): State<Shared>,
    query: Query,
    headers: HeaderMap,
    deed: Deed,
) -> Result<Response> {
    query.finish()?;
    let wait = preferred_wait(&headers).filter(|wait| !wait.is_zero());
    if let Some(answer) = deed.answered_before(&app).await? {
        return show_after(&app, &deed, answer, wait).await;
    }
    let run_id = (app.options.new_run_id)();
    let news = match wait {
        Some(_) => Some(app.bus.subscribe(run_id).await),
        None => None,
    };
    let mut turn_at = None;
    for _ in 0..ATTEMPTS_MAX {
        let order = read_order(&app, &deed, run_id).await?;
        let place = match promptly(app.quota.take(deed.caller.tenant)).await? {
            Ok(place) => place,
            Err(full) => return unless_answered(&app, &deed, wait, full).await,
        };
        if turn_at.is_none() {
            let turn = take_turn(&app, deed.caller.tenant, order.definition.plan(), &order.created).await;
            turn_at = match turn {
                Ok(turn_at) => turn_at,
                Err(refused) => return unless_answered(&app, &deed, wait, refused).await,
            };
        }
        let mut ordered = order.keep(&app, deed.caller.tenant).await?;
        ordered.created.turn_at = turn_at;
        match write(&app, &deed, run_id, ordered, place).await {
            Ok(summary) => {
                let answer = created(&summary);
                return match wait.zip(news) {
                    Some((wait, news)) => show_run(&app, &deed.caller, answer, run_id, news, wait).await,
                    None => Ok(answer),
                };
            }
            // Published anew, or deleted, since this process last looked: the order is read again, and checked again.
            Err(WriteError::Moved) => app.published.forget(deed.caller.tenant),
            Err(WriteError::Occupied { by }) => {
                return unless_answered(&app, &deed, wait, Problem::group_occupied(by)).await;
            }
            Err(WriteError::KeyTaken) => {
                let answer = deed.answered_before(&app).await?.ok_or_else(contended)?;
                return show_after(&app, &deed, answer, wait).await;
            }
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

/// What is in the way may be the run that another request with the same key starts.
async fn unless_answered(
    app: &Shared,
    deed: &Deed,
    wait: Option<Duration>,
    problem: impl Into<Problem>,
) -> Result<Response> {
    let answer = deed.answered_or(app, problem).await?;
    show_after(app, deed, answer, wait).await
}

async fn write(
    app: &Shared,
    deed: &Deed,
    run_id: RunId,
    ordered: Ordered,
    place: Place,
) -> Result<RunSummary, WriteError> {
    let (mut new, summary) = assemble(deed, run_id, ordered);
    new.remember = deed.remember(StatusCode::CREATED, &summary, Some(&location(run_id)));
    begin(app, new, place).await?;
    Ok(summary)
}

/// A run that is ready to be written, and how it looks then.
pub(crate) fn assemble(deed: &Deed, run_id: RunId, ordered: Ordered) -> (NewRun, RunSummary) {
    let Ordered { definition, workflow, created, labels, priority, now } = ordered;
    let (event, state) = decide::create(&definition.plan, run_id, created, deed.caller.actor.clone(), now);
    let created_at = event.at;
    let mut new = NewRun::new(deed.caller.tenant, definition.version_id, &state, event);
    (new.pin, new.priority, new.labels) = (definition.pin, priority, labels.clone());
    let summary = RunSummary {
        id: run_id,
        workflow,
        version: definition.version,
        status: new.projection.status,
        paused_reason: None,
        priority,
        labels,
        created_at,
        started_at: None,
        ended_at: None,
        last_activity_at: created_at,
        parent_run_id: None,
        wake_at: new.projection.wake_at,
        error_type: None,
    };
    (new, summary)
}

/// Writes a new run, and has it looked at.
pub(crate) async fn begin(app: &Shared, new: NewRun, place: Place) -> Result<(), WriteError> {
    let (store, bus, event) = (app.store.clone(), app.bus.clone(), new.event.clone());
    let ring = Ring { run_id: new.id, tenant: new.tenant, priority: new.priority };
    to_the_end(async move {
        point("door.before_create");
        let written = store.create_run(new).await;
        place.settle(&written);
        written?;
        point("door.created");
        bus.ring(ring);
        bus.publish(ring.run_id, vec![event]);
        Ok(())
    })
    .await?;
    point("door.before_answer");
    Ok(())
}

pub(crate) fn location(run_id: RunId) -> String {
    format!("/v1/workflow-runs/{run_id}")
}

fn created(summary: &RunSummary) -> Response {
    let location = HeaderValue::from_str(&location(summary.id)).expect("ids are plain");
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(summary)).into_response()
}

// ---- waiting -----------------------------------------------------------------------------------

/// A replayed answer; with a wait, it shows the run as it is afterwards.
async fn show_after(app: &App, deed: &Deed, answer: Response, wait: Option<Duration>) -> Result<Response> {
    let run_id = answer.headers().get(header::LOCATION).and_then(|location| {
        let (_, id) = location.to_str().ok()?.rsplit_once('/')?;
        crate::query::parse_run_id(id)
    });
    match (wait, run_id) {
        (Some(wait), Some(run_id)) => {
            let news = app.bus.subscribe(run_id).await;
            show_run(app, &deed.caller, answer, run_id, news, wait).await
        }
        _ => Ok(answer),
    }
}

async fn show_run(
    app: &App,
    caller: &Caller,
    answer: Response,
    run_id: RunId,
    news: Subscription,
    wait: Duration,
) -> Result<Response> {
    wait_for_rest(app, caller.tenant, run_id, news, wait).await;
    let run = app.fold_run(caller.tenant, run_id).await?;
    let mut shown = (answer.status(), Json(run.view())).into_response();
    for name in [header::LOCATION, crate::idempotency::REPLAYED] {
        if let Some(value) = answer.headers().get(&name) {
            shown.headers_mut().insert(name, value.clone());
        }
    }
    let applied = format!("wait={}", wait.as_secs());
    shown
        .headers_mut()
        .insert(PREFERENCE_APPLIED, HeaderValue::from_str(&applied).expect("a number is plain"));
    Ok(shown)
}

// ---- reading the order -------------------------------------------------------------------------

/// What is to be run, found and checked, before anything is taken or kept for it.
struct Order {
    definition: Found,
    created: RunCreated,
    labels: Labels,
    priority: Priority,
    now: Timestamp,
}

enum Found {
    Published(Definite),
    Inline(Compiled),
}

impl Found {
    fn plan(&self) -> &Arc<Plan> {
        match self {
            Self::Published(definition) => &definition.plan,
            Self::Inline(compiled) => &compiled.plan,
        }
    }
}

impl Order {
    /// Keeps a definition that came inline, so that the run can be pinned to it.
    async fn keep(self, app: &Shared, tenant: TenantId) -> Result<Ordered> {
        let Self { definition, created, labels, priority, now } = self;
        let definition = match definition {
            Found::Published(definition) => definition,
            Found::Inline(compiled) => keep_inline(app, tenant, compiled).await?,
        };
        let workflow = definition.plan.name.clone();
        Ok(Ordered { definition, workflow, created, labels, priority, now })
    }
}

async fn read_order(app: &Shared, deed: &Deed, run_id: RunId) -> Result<Order> {
    let body: NewRunBody = deed.json()?;
    let labels = read_labels(body.labels.unwrap_or_default())?;
    let now = app.now().await?;
    let start_at = body.start_at.map(|text| read_moment("/start_at", &text, now)).transpose()?;
    let deadline_at = body.deadline.map(|text| read_moment("/deadline", &text, now)).transpose()?;
    if deadline_at.is_some_and(|deadline_at| start_at.is_some_and(|start_at| deadline_at <= start_at)) {
        return Err(Problem::body("/deadline", "comes before the run starts"));
    }
    let tenant = deed.caller.tenant;
    let definition = match (body.workflow, body.spec) {
        (Some(workflow), None) => Found::Published(find_published(app, tenant, &workflow).await?),
        (None, Some(spec)) => {
            let document = Document::from_value(Value::Object(spec));
            Found::Inline(compile(app, tenant, document, deed.bytes.len(), "/spec").await?)
        }
        _ => return Err(Problem::body("", "either `workflow` or `spec` is required, and not both")),
    };
    let inputs = check_inputs(definition.plan(), body.inputs.unwrap_or_default())?;
    let inputs = Payload::new(inputs);
    let created = RunCreated { inputs, start_at, deadline_at, ..RunCreated::default() };
    let created = join_group(definition.plan(), run_id, created, &labels, now)?;
    Ok(Order { definition, created, labels, priority: body.priority.unwrap_or_default(), now })
}

/// Fills in defaults.
pub(crate) fn check_inputs(plan: &Plan, inputs: Map<String, Value>) -> Result<Value> {
    let mut inputs = Value::Object(inputs);
    match plan.complete_inputs(&mut inputs) {
        fitting if fitting.is_empty() => Ok(inputs),
        violations => Err(Problem::invalid_inputs(violations)),
    }
}

/// Says of which concurrency group the run is, if it is of one.
pub(crate) fn join_group(
    plan: &Plan,
    run_id: RunId,
    mut created: RunCreated,
    labels: &Labels,
    now: Timestamp,
) -> Result<RunCreated> {
    created.group = decide::group_of(plan, run_id, &created, labels, now).map_err(|error| {
        Problem::new(Code::NoGroup, "The run's concurrency group cannot be told.").at("", error.message)
    })?;
    Ok(created)
}

/// A run whose workflow refuses what is one too many takes its turn here, once its group is known. All others ask when
/// they are to begin.
pub(crate) async fn take_turn(
    app: &Shared,
    tenant: TenantId,
    plan: &Plan,
    created: &RunCreated,
) -> Result<Option<Timestamp>> {
    let limit = plan.rate_limit.filter(|limit| limit.on_limit == OnLimit::Reject);
    let Some(limit) = limit.filter(|_| created.start_at.is_none()) else { return Ok(None) };
    refuse_if_occupied(app, tenant, created).await?;
    let (store, key) = (app.store.clone(), LimitKey { tenant, kind: Limited::Runs, name: plan.name.clone() });
    match to_the_end(async move { Ok(store.take_turn(key, limit).await?) }).await? {
        Turn::Now => Ok(Some(app.now().await?)),
        Turn::At(at) => Ok(Some(at)),
        Turn::Refused { retry_after } => Err(Problem::rate_limited(&plan.name, retry_after)),
    }
}

/// A turn that was taken is spent. So who will be refused by its group is refused before, unless that fills up just now.
async fn refuse_if_occupied(app: &App, tenant: TenantId, created: &RunCreated) -> Result<()> {
    let group = created.group.as_ref().filter(|group| group.on_conflict == OnConflict::Reject);
    let Some(group) = group else { return Ok(()) };
    let members = app.store.list_group(tenant, &group.name, group.max).await?;
    occupant(&members, group.max).map_or(Ok(()), |by| Err(Problem::group_occupied(by)))
}

async fn find_published(app: &App, tenant: TenantId, workflow: &str) -> Result<Definite> {
    match app.published.find(tenant, workflow) {
        Some(found) => Ok(found),
        None => look_up_published(app, tenant, workflow).await,
    }
}

/// As it is now, whatever this process remembers.
pub(crate) async fn look_up_published(app: &App, tenant: TenantId, workflow: &str) -> Result<Definite> {
    let unknown = || {
        let shown: String = workflow.chars().take(100).collect();
        let detail = format!("there is no workflow {shown:?}");
        Problem::new(Code::UnknownWorkflow, "The workflow to run does not exist.").at("/workflow", detail)
    };
    let (name, version) = match workflow.split_once('@') {
        Some((name, version)) => (name, Some(number_within(version, 1, u32::MAX).map_err(|_| unknown())?)),
        None => (workflow, None),
    };
    let row = app.store.get_version(tenant, name, version).await?.ok_or_else(unknown)?;
    let pin = if version.is_some() { Pin::Version } else { Pin::Latest };
    let found = Definite { plan: app.plans.of(&row)?, version_id: row.id, version: row.version, pin };
    app.published.keep(tenant, workflow, found.clone());
    Ok(found)
}

async fn keep_inline(app: &Shared, tenant: TenantId, compiled: Compiled) -> Result<Definite> {
    let (plans, plan, spec) = (app.plans.clone(), compiled.plan.clone(), compiled.definition.spec);
    let id = to_the_end(async move { Ok(plans.put_inline(tenant, &spec, &plan).await?) }).await?;
    Ok(Definite { plan: compiled.plan, version_id: id, version: None, pin: Pin::Inline })
}

pub(crate) fn read_labels(labels: BTreeMap<String, String>) -> Result<Labels> {
    if labels.len() > LABELS_MAX {
        return Err(Problem::body("/labels", format!("more than {LABELS_MAX} labels")));
    }
    for (key, value) in &labels {
        check_label(key, value)
            .map_err(|why| Problem::body(format!("/labels/{}", crate::body::escape(key)), why))?;
    }
    Ok(labels)
}

/// # Errors
/// A sentence with the bounds of labels.
pub(crate) fn check_label(key: &str, value: &str) -> Result<(), String> {
    let first = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    if !first || key.len() > LABEL_KEY_CHARS_MAX || !key.bytes().all(plain) {
        return Err(format!("the key must have up to {LABEL_KEY_CHARS_MAX} letters, digits and `_./-`"));
    }
    if value.chars().count() > LABEL_VALUE_CHARS_MAX || value.chars().any(char::is_control) {
        return Err(format!(
            "the value must have up to {LABEL_VALUE_CHARS_MAX} characters, none of them control"
        ));
    }
    Ok(())
}

/// A time or a span from now, in the future and within [`SPAN_MAX`].
pub(crate) fn read_moment(pointer: &str, text: &str, now: Timestamp) -> Result<Timestamp> {
    let moment = match text.parse::<Timestamp>() {
        Ok(at) => Ok(at),
        Err(_) => parse_duration(text)
            .map(|span| now.plus(span))
            .map_err(|why| format!("{why}, or a time such as 2026-11-20T12:00:00Z")),
    };
    let moment = moment.map_err(|why| Problem::body(pointer, why))?;
    if moment <= now {
        return Err(Problem::body(pointer, "lies in the past"));
    }
    if moment > now.plus(SPAN_MAX) {
        return Err(Problem::body(pointer, "lies more than ten years ahead"));
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_or_a_deadline_lies_ahead_and_within_ten_years() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        assert_eq!(read_moment("/deadline", "2h", now).unwrap(), now.plus(Duration::from_secs(7200)));
        assert_eq!(
            read_moment("/deadline", "2026-11-20T12:00:01Z", now).unwrap(),
            now.plus(Duration::from_secs(1))
        );
        for text in
            ["2026-11-20T12:00:00Z", "1999-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0s", "-5s", "soon", ""]
        {
            assert_eq!(read_moment("/deadline", text, now).unwrap_err().code(), Code::InvalidBody, "{text}");
        }
    }

    #[test]
    fn labels_have_bounds() {
        assert!(check_label("team/a.b-c_d", "Ä ö ü, 100 %").is_ok());
        assert!(check_label(&"k".repeat(63), &"ä".repeat(255)).is_ok());
        for (key, value) in
            [("", "v"), ("-a", "v"), ("a b", "v"), ("a:b", "v"), ("a", "x\ny"), ("a", "\u{9b}")]
        {
            assert!(check_label(key, value).is_err(), "{key} {value:?}");
        }
        assert!(check_label(&"k".repeat(64), "").is_err());
        assert!(check_label("k", &"v".repeat(256)).is_err());
    }
}
