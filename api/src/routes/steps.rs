//! The steps of a run: how they stand, what they gave, when they ran, and why nothing moves.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::command::Verdict;
use windlass_model::present::{self, StepView};
use windlass_model::state::{AttemptOutcome, Step as FoldedStep, WaitReason};
use windlass_model::{
    Actor, Attempt, Command, Input, NodeIndex, Payload, RunId, RunStatus, SessionId, StepKey, StepStatus,
    Timestamp, decide,
};

use windlass_store::MEMBERS_MAX;

use crate::actor::Caller;
use crate::app::{App, Folded, Shared};
use crate::openapi::NotFound;
use crate::problem::{Problem, Result};
use crate::query::{At, Query};
use crate::routes::workflow_runs::read_payload;
use crate::view::{Step, open_attempt_outcome, run_status};

#[derive(Serialize, ToSchema)]
pub(crate) struct Steps<'a> {
    #[schema(value_type = Vec<Step>)]
    items: Vec<StepView<'a>>,
}

/// List the steps of a run, in the order of the definition, with all their items
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/steps", operation_id = "list_steps", tag = "runs",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "All the steps.", body = Steps), NotFound))]
pub(crate) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let run = app.fold_run(caller.tenant, at.run_id()?).await?;
    Ok(Json(Steps { items: present::step_views(&run.plan, &run.state, usize::MAX) }).into_response())
}

/// Read the whole output of a step, whatever its size
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/steps/{node}/output", operation_id = "get_step_output", tag = "runs",
    params(
        ("id" = Uuid, Path),
        ("node" = String, Path, pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,95}$"),
        ("item" = Option<u32>, Query, description = "Index of the item inside a fan-out."),
    ),
    responses((status = 200, description = "The output; null when there is none.", body = Value), NotFound))]
pub(crate) async fn output(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    mut query: Query,
) -> Result<Response> {
    let item = query.read("item", |text| text.parse::<u32>().map_err(|_| "must be an index".to_owned()))?;
    query.finish()?;
    let run = app.fold_run(caller.tenant, at.run_id()?).await?;
    let node = run.plan.find(at.get("node")).ok_or_else(|| Problem::not_found("step"))?;
    let step = StepKey { node: node.index, item };
    if item.is_some_and(|item| !has_item(&run, step, item)) {
        return Err(Problem::not_found("item"));
    }
    let output = &run.state.step(step).output;
    let json = [(header::CONTENT_TYPE, "application/json")];
    match output.missing() {
        // What lies in the blob store is JSON already.
        Some(blob) => Ok((json, app.get_blob(caller.tenant, &blob.digest).await?).into_response()),
        None => Ok(Json(read_payload(&app, caller.tenant, output).await?.value()).into_response()),
    }
}

/// Also one that was not begun.
fn has_item(run: &Folded, step: StepKey, item: u32) -> bool {
    let fan = run.plan.fan_of(step.node).and_then(|of| run.state.fans.get(&of));
    fan.is_some_and(|fan| item < fan.count) || run.state.all_steps().any(|(known, _)| known == step)
}

// ---- timeline ----------------------------------------------------------------------------------

#[derive(Serialize, ToSchema)]
pub(crate) struct Timeline {
    items: Vec<TimelineEntry>,
}

/// One attempt of one step.
#[derive(Serialize, ToSchema)]
struct TimelineEntry {
    node: String,
    kind: String,
    /// Index of the item inside a fan-out.
    #[schema(required)]
    item: Option<u32>,
    #[schema(value_type = u16)]
    attempt: Attempt,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    started_at: Option<Timestamp>,
    /// Null while it runs.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    ended_at: Option<Timestamp>,
    #[schema(schema_with = open_attempt_outcome)]
    outcome: Option<AttemptOutcome>,
}

/// Show when each attempt of each step ran, by its start
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/timeline", operation_id = "get_timeline", tag = "runs",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "All the attempts.", body = Timeline), NotFound))]
pub(crate) async fn timeline(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let run = app.fold_run(caller.tenant, at.run_id()?).await?;
    let mut items: Vec<TimelineEntry> = Vec::new();
    for (key, step) in run.state.all_steps() {
        let node = run.plan.node(key);
        let entry = |attempt, started_at, ended_at, outcome| TimelineEntry {
            node: node.id.clone(),
            kind: node.kind.clone(),
            item: key.item,
            attempt,
            started_at,
            ended_at,
            outcome,
        };
        let ended = step.attempts.iter();
        items.extend(ended.map(|it| entry(it.attempt, it.started_at, Some(it.ended_at), Some(it.outcome))));
        if step.status == StepStatus::Running {
            items.push(entry(step.attempt, step.started_at, None, None));
        }
    }
    items.sort_by_key(|entry| entry.started_at.or(entry.ended_at));
    Ok(Json(Timeline { items }).into_response())
}

// ---- explain -----------------------------------------------------------------------------------

/// Why a run stands where it stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct Explanation {
    #[schema(value_type = String, format = Uuid)]
    run_id: RunId,
    #[schema(schema_with = run_status)]
    status: RunStatus,
    /// In one sentence.
    summary: String,
    /// Session of the worker that holds the run.
    #[schema(value_type = Option<String>, format = Uuid, required)]
    held_by: Option<SessionId>,
    /// How often an engine has taken the run.
    epoch: u32,
    /// When time alone moves the run next.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    wakes_at: Option<Timestamp>,
    /// The concurrency group in which it waits for a place.
    #[schema(required)]
    queue: Option<Queue>,
    steps: Vec<StepExplanation>,
    /// Commands that would be accepted now: for the run, for the steps that it is at, and signals that it listens to.
    would_move: Vec<String>,
}

/// Whose end a run waits for.
#[derive(Serialize, ToSchema)]
struct Queue {
    group: String,
    /// How many runs of the group may be under way.
    max: u32,
    /// Those that are, up to 100.
    #[schema(value_type = Vec<String>)]
    held_by: Vec<RunId>,
    /// How many wait whose turn comes earlier; counted up to 1,000.
    ahead: usize,
}

/// Holders of a group that one explanation names.
const HOLDERS_SHOWN_MAX: usize = 100;

/// Steps that one explanation is about: a fan-out may be at hundreds.
const STEPS_EXPLAINED_MAX: usize = 100;

/// A step that the run is at.
#[derive(Serialize, ToSchema)]
struct StepExplanation {
    node: String,
    #[schema(value_type = String)]
    status: StepStatus,
    sentence: String,
}

/// Explain what a run waits for, who holds it, and what would move it
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/explain", operation_id = "explain_run", tag = "runs",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "The explanation.", body = Explanation), NotFound))]
pub(crate) async fn explain(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let run = app.fold_run(caller.tenant, at.run_id()?).await?;
    let now = app.now().await?;
    let queue = queue_of(&app, &run).await?;
    let steps = run.state.all_steps().filter_map(|(key, step)| {
        let sentence = sentence_of(&run, key, step)?;
        Some(StepExplanation { node: run.plan.label(key).into_owned(), status: step.status, sentence })
    });
    let explanation = Explanation {
        run_id: run.row.id,
        status: run.row.status,
        summary: queue.as_ref().map_or_else(|| summary_of(&run), Queue::summary),
        held_by: run.row.lease_owner,
        epoch: run.state.epoch.0,
        wakes_at: run.row.wake_at,
        queue,
        steps: steps.take(STEPS_EXPLAINED_MAX).collect(),
        would_move: accepted_commands(&run, &caller.actor, now),
    };
    Ok(Json(explanation).into_response())
}

/// None when the run does not wait for a place.
async fn queue_of(app: &App, run: &Folded) -> Result<Option<Queue>> {
    let waits = run.row.status == RunStatus::Waiting && run.state.wants_place() && !run.state.is_delayed;
    let Some(group) = run.state.group.as_ref().filter(|_| waits) else { return Ok(None) };
    let members = app.store.list_group(run.row.tenant, &group.name, MEMBERS_MAX).await?;
    let held_by = members.iter().filter(|member| member.has_place).map(|member| member.run_id);
    let waiting = members.iter().filter(|member| !member.has_place);
    Ok(Some(Queue {
        group: group.name.clone(),
        max: group.max,
        held_by: held_by.take(HOLDERS_SHOWN_MAX).collect(),
        ahead: waiting.take_while(|member| member.run_id != run.row.id).count(),
    }))
}

impl Queue {
    fn summary(&self) -> String {
        let Self { group, held_by, ahead, .. } = self;
        let holders = match held_by.as_slice() {
            [one] => format!("run {one} has it"),
            many => format!("{} runs have one", many.len()),
        };
        let are = if *ahead == 1 { "is" } else { "are" };
        format!(
            "The run waits for a place in the concurrency group `{group}`: {holders}, and {ahead} {are} ahead of it."
        )
    }
}

fn summary_of(run: &Folded) -> String {
    let reason = run.row.paused_reason.map_or("unknown", |reason| reason.as_str());
    match run.row.status {
        RunStatus::Queued => "The run waits for an engine to take it.".to_owned(),
        RunStatus::Running => "An engine holds the run and works on it.".to_owned(),
        RunStatus::Waiting if run.state.is_delayed => match run.state.start_at {
            Some(at) if run.state.turn_at.is_some() => format!(
                "As many runs of `{}` start as may; the turn of this one comes at {at}.",
                run.row.workflow
            ),
            Some(at) => format!("The run starts at {at}."),
            None => "The run starts later.".to_owned(),
        },
        RunStatus::Waiting => match run.row.wake_at {
            Some(at) => format!("The run is parked; it wakes by itself at {at}."),
            None => "The run is parked until somebody moves it.".to_owned(),
        },
        RunStatus::Paused => format!("The run is paused ({reason}) and needs a person."),
        RunStatus::Compensating => "The run will end once what it did is undone.".to_owned(),
        RunStatus::Canceling => "A cancel was accepted; what is in flight is being stopped.".to_owned(),
        RunStatus::Completed | RunStatus::Failed | RunStatus::Canceled => {
            format!("The run has ended: {}.", run.row.status.as_str())
        }
    }
}

/// Why the run is at this step; none when it is not.
fn sentence_of(run: &Folded, key: StepKey, step: &FoldedStep) -> Option<String> {
    let error = step
        .error
        .as_ref()
        .map(|error| format!(": {} ({})", error.message.trim_end_matches('.'), error.kind))
        .unwrap_or_default();
    match (step.status, &step.wait) {
        (StepStatus::Running, _) => Some(format!("Attempt {} is in flight.", step.attempt)),
        (StepStatus::Paused, _) if step.outcome_unknown => {
            Some(format!("Attempt {} was interrupted; whether it took effect is unknown.", step.attempt))
        }
        (StepStatus::Paused, _) => Some(format!("Attempt {} failed{error}.", step.attempt)),
        (StepStatus::Waiting, Some(wait)) => {
            let until = wait.until.map(|at| format!(" until {at}")).unwrap_or_default();
            Some(match &wait.on {
                WaitReason::Timer => format!("It waits{until}."),
                WaitReason::Signal { name } => format!("It waits for the signal `{name}`{until}."),
                WaitReason::Approval => format!("It waits for an approval{until}."),
                WaitReason::Items => {
                    let fan = run.state.fans.get(&key.node);
                    let (count, open, failed) =
                        fan.map_or((0, 0, 0), |fan| (fan.count, fan.open, fan.failed.len()));
                    format!("Of its {count} items, {open} are under way and {failed} have failed.")
                }
                WaitReason::Child { run_id } => match wait.until {
                    Some(at) => {
                        format!(
                            "It waits for run {run_id}, which is asked to stop unless it has ended by {at}."
                        )
                    }
                    None => format!("It waits for run {run_id}."),
                },
                WaitReason::Fallback => format!("It failed{error}. Its fallback does it in another way."),
                WaitReason::RateLimit => {
                    let callee = run.plan.node(key).callee.as_ref();
                    let called = callee.map_or("", |callee| callee.name.as_str());
                    format!(
                        "`{called}` is called as often as it may be; its turn comes at {}.",
                        wait.until.unwrap_or_default()
                    )
                }
                WaitReason::Retry => {
                    format!("Attempt {} failed{error}. The next one waits{until}.", step.attempt)
                }
            })
        }
        _ => None,
    }
}

/// Tries every command on a copy of the state.
fn accepted_commands(run: &Folded, actor: &Actor, now: Timestamp) -> Vec<String> {
    let mut commands: Vec<(String, Command)> = vec![
        ("pause".into(), Command::Pause),
        ("resume".into(), Command::Resume),
        ("cancel".into(), Command::Cancel { reason: None }),
        ("retry".into(), Command::Retry { node: None }),
    ];
    let is_at = |step: &FoldedStep| matches!(step.status, StepStatus::Paused | StepStatus::Waiting);
    let steps = run.plan.nodes.iter().zip(&run.state.steps).filter(|(_, step)| is_at(step));
    for (node, step) in steps.take(STEPS_EXPLAINED_MAX) {
        if let Some(gate) = step.gate.as_ref().filter(|gate| gate.outcome.is_none()) {
            let verdict = open_verdict(node.index, gate.attempt);
            commands.push((format!("approve {}", node.id), Command::Approve(verdict.clone())));
            commands.push((format!("reject {}", node.id), Command::Reject(verdict)));
        }
        commands.push((format!("skip {}", node.id), Command::Skip { node: node.index.into() }));
    }
    let signals = run.state.listening.keys();
    commands.extend(signals.map(|name| {
        (format!("signal {name}"), Command::Signal { name: name.clone(), payload: Payload::null() })
    }));
    commands.retain(|(name, command)| {
        let input = Input::Command { command: command.clone(), actor: actor.clone() };
        // A form or a schema may refuse our empty payload, which says nothing about a good one.
        decide(&run.plan, &mut run.state.clone(), input, now)
            .map_or_else(|refused| refused.code.as_str() == "invalid_payload" && !name.is_empty(), |_| true)
    });
    commands.into_iter().map(|(name, _)| name).collect()
}

fn open_verdict(node: NodeIndex, attempt: Attempt) -> Verdict {
    Verdict { node, attempt, digest: None, comment: None, form: Payload::null() }
}
