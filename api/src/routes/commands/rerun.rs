//! Runs that go on from what another one did: beside it, or in its place.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use windlass_model::decide::{Again, Continuation, continue_from};
use windlass_model::event::{OriginReason, RunCreated};
use windlass_model::{Command, Payload, Plan, Priority, RunId, RunState, TenantId, Timestamp};
use windlass_store::{NewRun, Pin, Place, WriteError};

use super::carry_out::{consider, contended, write};
use crate::app::{Folded, Shared, promptly};
use crate::idempotency::Deed;
use crate::openapi::{Conflict, NotFound, TooMany};
use crate::problem::{Code, Problem, Result};
use crate::published::Definite;
use crate::query::{At, Query};
use crate::routes::workflow_runs::create::{
    Ordered, PriorityWord, assemble, begin, check_inputs, join_group, labels_schema, location,
    look_up_published, read_labels, read_moment, take_turn,
};
use crate::view::RunSummary;

/// Outputs that a run may have from the one before; they stand in its first event.
const REUSED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often the run, or the definition, may change while a run that goes on from it is being started.
const TRIES_MAX: u32 = 5;

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RerunBody {
    /// Id of the node to begin at. What ended well before it is reused; this node, what needs it, and what did not end
    /// well runs again. Left out, everything does.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
    from: Option<String>,
    /// Of the same workflow; left out, the version that the run had.
    version: Option<VersionWord>,
    /// In place of the run's own.
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    /// In place of the run's own.
    #[schema(schema_with = labels_schema)]
    labels: Option<BTreeMap<String, String>>,
    /// In place of the run's own.
    #[schema(value_type = Option<PriorityWord>)]
    priority: Option<Priority>,
    /// When the new run fails unless it has ended: a time, or a span from now such as `2h`.
    #[schema(min_length = 1, max_length = 64)]
    deadline: Option<String>,
    /// Say what would run again, and start nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveBody {
    /// Of the same workflow.
    version: VersionWord,
    /// Say what would be kept, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// The number of a version, or `latest`.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a number from 1, or `latest`")]
pub(crate) enum VersionWord {
    Number(u32),
    Word(Latest),
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Latest {
    Latest,
}

/// A run that goes on from another one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Continued {
    dry_run: bool,
    /// The new run; null when there is none.
    #[schema(required)]
    run: Option<RunSummary>,
    workflow: String,
    /// Null when the definition came inline.
    #[schema(required)]
    version: Option<u32>,
    /// Nodes that are not done again.
    reused: Vec<String>,
    /// Nodes that are yet to run.
    runs: Vec<String>,
}

/// Run again
///
/// As a new run, which says where it comes from. The one before must have ended or be paused, and stays as it is. What is
/// reused is not undone when the new run fails.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/rerun", operation_id = "rerun_run", tag = "commands",
    params(("id" = Uuid, Path)),
    request_body(content = Option<RerunBody>, example = json!({"dry_run": true})),
    responses((status = 201, description = "The new run is in the log; an engine will take it.", body = Continued,
            headers(("Location" = String, description = "The new run."))),
        (status = 200, description = "What would run again.", body = Continued), NotFound, Conflict, TooMany))]
pub(crate) async fn rerun(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let before = at.run_id()?;
    let body: RerunBody = deed.json_or_nothing()?;
    if let Some(answer) = deed.answered_before(&app).await? {
        return Ok(answer);
    }
    let mut next = Next::of(&app);
    for _ in 0..TRIES_MAX {
        let run = app.fold_run(deed.caller.tenant, before).await?;
        let definition = definition(&app, &deed, &run, body.version).await?;
        let again = again(&definition.plan, body.from.as_deref())?;
        let plan = continue_from(&run.plan, &run.state, &definition.plan, again, OriginReason::Rerun)?;
        let place = match body.dry_run {
            true => Ok(Place::default()),
            false => promptly(app.quota.take(deed.caller.tenant)).await?,
        };
        let place = match place {
            Ok(place) => place,
            Err(full) => return deed.answered_or(&app, full).await,
        };
        let (mut new, said) = match order(&app, &deed, &mut next, run, definition, plan, &body).await {
            Ok(ordered) => ordered,
            Err(refused) if matches!(refused.code(), Code::RateLimited | Code::GroupOccupied) => {
                return deed.answered_or(&app, refused).await;
            }
            Err(other) => return Err(other),
        };
        if body.dry_run {
            return Ok(Json(Continued { run: None, ..said }).into_response());
        }
        new.remember = deed.remember(StatusCode::CREATED, &said, Some(&location(next.run_id)));
        match begin(&app, new, place).await {
            Ok(()) => return Ok(created(next.run_id, &said)),
            Err(WriteError::Moved) => app.published.forget(deed.caller.tenant),
            Err(WriteError::Occupied { by }) => {
                return deed.answered_or(&app, Problem::group_occupied(by)).await;
            }
            Err(WriteError::KeyTaken) => return deed.answered_before(&app).await?.ok_or_else(contended),
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

/// Move a paused run to another version
///
/// A new run under that version takes its place in the same transaction: it has what the run before did, answers for the
/// undoing of that, and is not paused. The run before ends as `canceled`, undoes nothing, and says in `moved_to` who goes
/// on. A gate or a wait that was open begins anew.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/move", operation_id = "move_run", tag = "commands",
    params(("id" = Uuid, Path)),
    request_body(content = MoveBody, example = json!({"version": "latest", "dry_run": true})),
    responses((status = 201, description = "The new run is in the log; an engine will take it.", body = Continued,
            headers(("Location" = String, description = "The new run."))),
        (status = 200, description = "What would be kept.", body = Continued), NotFound, Conflict))]
pub(crate) async fn move_run(
    State(app): State<Shared>,
    at: At,
    query: Query,
    deed: Deed,
) -> Result<Response> {
    query.finish()?;
    let MoveBody { version, dry_run } = deed.json()?;
    move_to(&app, at.run_id()?, &deed, version, dry_run).await
}

pub(super) async fn move_to(
    app: &Shared,
    before: RunId,
    deed: &Deed,
    version: VersionWord,
    dry_run: bool,
) -> Result<Response> {
    if let Some(answer) = deed.answered_before(app).await? {
        return Ok(answer);
    }
    let mut next = Next::of(app);
    let run_id = next.run_id;
    let command = |_: &Plan, _: &RunState| Ok(Command::Move { to: run_id });
    for _ in 0..TRIES_MAX {
        let mut decision = consider(app, before, deed, &command).await?;
        let run = decision.run.clone();
        // Chosen a moment ago, whatever is published meanwhile.
        let definition = Definite { pin: Pin::Inline, ..definition(app, deed, &run, Some(version)).await? };
        let plan =
            continue_from(&run.plan, &run.state, &definition.plan, Again::Unfinished, OriginReason::Move)?;
        check_undoing(&plan)?;
        let unchanged = RerunBody { dry_run, ..RerunBody::default() };
        let (new, said) = order(app, deed, &mut next, run, definition, plan, &unchanged).await?;
        if dry_run {
            return Ok(Json(Continued { run: None, ..said }).into_response());
        }
        decision.successor = Some(new);
        let remember = deed.remember(StatusCode::CREATED, &said, Some(&location(run_id)));
        match write(app, deed, decision, remember).await {
            Ok(_) => return Ok(created(run_id, &said)),
            Err(WriteError::Moved) => app.published.forget(deed.caller.tenant),
            Err(WriteError::KeyTaken) => return deed.answered_before(app).await?.ok_or_else(contended),
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

fn created(run_id: RunId, said: &Continued) -> Response {
    let location = HeaderValue::from_str(&location(run_id)).expect("ids are plain");
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(said)).into_response()
}

fn check_undoing(plan: &Continuation) -> Result<()> {
    match plan.forgotten.as_slice() {
        [] => Ok(()),
        steps => {
            let detail = format!("this version could not undo what was done by {}", steps.join(", "));
            Err(Problem::body("/version", detail))
        }
    }
}

fn again(plan: &Plan, from: Option<&str>) -> Result<Again> {
    let Some(from) = from else { return Ok(Again::Everything) };
    if plan.machine.is_some() {
        return Err(Problem::body("/from", "a machine has no node to begin at; leave it out"));
    }
    let main = &plan.nodes[..plan.main_count()];
    let node = main.iter().find(|node| node.id == from);
    let node = node.ok_or_else(|| {
        let shown: String = from.chars().take(64).collect();
        Problem::body("/from", format!("the workflow has no node {shown:?}"))
    })?;
    Ok(Again::From(node.index))
}

/// The definition that the new run is pinned to.
async fn definition(
    app: &Shared,
    deed: &Deed,
    run: &Folded,
    version: Option<VersionWord>,
) -> Result<Definite> {
    let (name, had) = (&run.row.workflow, run.row.workflow_version);
    let wanted = match (version, had) {
        (None, None) => {
            let (plan, version_id) = (run.plan.clone(), run.row.version_id);
            return Ok(Definite { plan, version_id, version: None, pin: Pin::Inline });
        }
        (Some(_), None) => {
            return Err(Problem::body(
                "/version",
                "the definition came inline with the run: it has no versions",
            ));
        }
        (None, Some(had)) => format!("{name}@{had}"),
        (Some(VersionWord::Number(number)), Some(_)) => format!("{name}@{number}"),
        (Some(VersionWord::Word(Latest::Latest)), Some(_)) => name.clone(),
    };
    look_up_published(app, deed.caller.tenant, &wanted).await.map_err(|problem| match problem.code() {
        Code::UnknownWorkflow => {
            Problem::new(Code::UnknownWorkflow, "The version does not exist any more, or not yet.")
                .at("/version", format!("there is no {wanted}"))
        }
        _ => problem,
    })
}

/// What a new run keeps, however often it takes to write it.
struct Next {
    run_id: RunId,
    /// Its turn, once it was taken: it is not taken twice.
    turn_at: Option<Timestamp>,
}

impl Next {
    fn of(app: &Shared) -> Self {
        Self { run_id: (app.options.new_run_id)(), turn_at: None }
    }
}

/// The new run, and what is said about it.
async fn order(
    app: &Shared,
    deed: &Deed,
    next: &mut Next,
    before: Folded,
    definition: Definite,
    plan: Continuation,
    body: &RerunBody,
) -> Result<(NewRun, Continued)> {
    let now = app.now().await?;
    let inputs = match &body.inputs {
        Some(inputs) => inputs.clone(),
        None => inputs_of(app, deed.caller.tenant, &before.state.inputs).await?,
    };
    let labels = body.labels.clone().map(read_labels).transpose()?.unwrap_or(before.row.labels);
    let deadline_at = body.deadline.as_deref().map(|text| read_moment("/deadline", text, now)).transpose()?;
    let (start_at, deadline_at) = match plan.origin.because {
        OriginReason::Rerun => (None, deadline_at),
        OriginReason::Move => {
            let state = &before.state;
            (state.start_at.filter(|_| state.is_delayed), state.deadline_at)
        }
    };
    let starts = plan.origin.because == OriginReason::Rerun;
    let Continuation { origin, reused, runs, .. } = plan;
    let inputs = Payload::new(check_inputs(&definition.plan, inputs)?);
    let origin = Some(Box::new(origin));
    // Whatever reads for which of its times a schedule started the run reads the same.
    let scheduled = before.state.scheduled;
    let created = RunCreated { inputs, start_at, scheduled, deadline_at, origin, ..RunCreated::default() };
    let mut created = join_group(&definition.plan, next.run_id, created, &labels, now)?;
    if starts && !body.dry_run && next.turn_at.is_none() {
        next.turn_at = take_turn(app, deed.caller.tenant, &definition.plan, &created).await?;
    }
    created.turn_at = next.turn_at;
    let ordered = Ordered {
        created,
        workflow: before.row.workflow.clone(),
        labels,
        priority: body.priority.unwrap_or(before.row.priority),
        now,
        definition,
    };
    let (workflow, version) = (before.row.workflow, ordered.definition.version);
    let (new, summary) = assemble(deed, next.run_id, ordered);
    let bytes = new.event.body.data().len();
    if bytes > REUSED_BYTES_MAX {
        let detail = format!("what would be reused has {bytes} bytes; {REUSED_BYTES_MAX} are allowed");
        return Err(Problem::body("/from", detail));
    }
    Ok((new, Continued { dry_run: body.dry_run, run: Some(summary), workflow, version, reused, runs }))
}

async fn inputs_of(app: &Shared, tenant: TenantId, inputs: &Payload) -> Result<Map<String, Value>> {
    let inputs = match (inputs.missing(), inputs.value()) {
        (Some(blob), _) => {
            let content = app.get_blob(tenant, &blob.digest).await?;
            serde_json::from_slice(&content).map_err(|error| Problem::internal(&error))?
        }
        (None, Some(inputs)) => (**inputs).clone(),
        (None, None) => Value::Null,
    };
    Ok(match inputs {
        Value::Object(inputs) => inputs,
        _ => Map::new(),
    })
}
