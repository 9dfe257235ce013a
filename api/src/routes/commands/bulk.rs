//! One command for many runs.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use windlass_model::{Command, Plan, RunId, RunState, RunStatus};

use super::carry_out::{consider, record};
use super::check_length;
use crate::app::Shared;
use crate::idempotency::{Deed, REPLAYED};
use crate::problem::{Code, Problem, Result};
use crate::query::{Query, parse_run_id};
use crate::routes::workflow_runs::read_filter;
use crate::view::Receipt;

/// Runs that one request tells something at most; a filter that finds more gives a cursor to go on with.
const RUNS_MAX: u32 = 1_000;
const RUNS_DEFAULT: u32 = 200;
/// Runs that are told at the same time: their writes share commits.
const AT_ONCE: usize = 16;

/// Exactly one of `ids` and `filter` is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkBody {
    action: Action,
    /// Why, kept in the log of each run. For `cancel` only.
    #[schema(max_length = 4000, pattern = "^[^\\u0000]*$")]
    reason: Option<String>,
    /// These runs.
    #[schema(max_items = 1000)]
    ids: Option<Vec<Uuid>>,
    /// The runs that a list with these parameters shows. `{}` means all.
    filter: Option<Filter>,
    /// Tells at most so many of the runs that the filter finds.
    #[schema(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the answer before, with the same filter.
    #[schema(min_length = 1, max_length = 512, pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
    /// Say what would become of each run, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// As the single commands of these names; `retry` tries every failed or interrupted step again.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    Pause,
    Resume,
    Cancel,
    Retry,
}

/// The parameters of `GET /v1/workflow-runs`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Runs with one of these statuses.
    #[serde(default)]
    #[schema(max_items = 64)]
    status: Vec<String>,
    /// Runs of the workflow with exactly this name.
    workflow: Option<String>,
    /// Runs that steps of this run have started.
    #[schema(format = Uuid)]
    parent: Option<String>,
    /// `key:value`; runs that have all of them.
    #[serde(default)]
    #[schema(max_items = 64)]
    label: Vec<String>,
    #[schema(format = DateTime)]
    created_after: Option<String>,
    #[schema(format = DateTime)]
    created_before: Option<String>,
    /// Part of the workflow's name, the run's id, a label's value or the error's type. Case is ignored.
    text: Option<String>,
}

/// What became of each run, in the order of `ids`, or newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bulk {
    dry_run: bool,
    /// Runs that were told, or would be.
    done: usize,
    /// Runs for which the command does not fit, or that do not exist.
    refused: usize,
    items: Vec<BulkItem>,
    /// Pass it as `cursor` to tell the runs that the filter finds beyond these; null when there are none.
    #[schema(required)]
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BulkItem {
    #[schema(value_type = String, format = Uuid)]
    run_id: RunId,
    #[serde(flatten)]
    fate: Fate,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Fate {
    /// The run's status is what it is with the command in its log.
    Done {
        #[schema(schema_with = crate::view::run_status)]
        status: RunStatus,
    },
    Refused {
        /// The code and the sentence that the single command would be refused with.
        code: &'static str,
        detail: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(schema_with = crate::view::run_status)]
        status: Option<RunStatus>,
    },
}

/// Tell many runs the same
///
/// Each run is told by itself: one that refuses keeps no other from being told. With an `Idempotency-Key`, a repeated
/// request tells nobody twice, and goes on where the first one ended.
#[utoipa::path(post, path = "/v1/workflow-runs/bulk", operation_id = "bulk_command", tag = "commands",
    request_body(content = BulkBody, example = json!({"action": "cancel", "filter": {"status": ["paused"]}, "dry_run": true})),
    responses((status = 200, description = "What became of each run.", body = Bulk)))]
pub(crate) async fn bulk(State(app): State<Shared>, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let body: BulkBody = deed.json()?;
    body.check()?;
    let (ids, next_cursor) = choose(&app, &deed, &body).await?;
    let told: Vec<(BulkItem, bool)> = stream::iter(ids)
        .map(|run_id| tell(&app, &deed, &body, run_id))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let all_replayed = !told.is_empty() && told.iter().all(|(_, is_replayed)| *is_replayed);
    let items: Vec<BulkItem> = told.into_iter().map(|(item, _)| item).collect();
    let done = items.iter().filter(|item| matches!(item.fate, Fate::Done { .. })).count();
    let answer = Bulk { dry_run: body.dry_run, done, refused: items.len() - done, items, next_cursor };
    let mut response = Json(answer).into_response();
    if all_replayed {
        response.headers_mut().insert(REPLAYED, header::HeaderValue::from_static("true"));
    }
    Ok(response)
}

impl BulkBody {
    fn check(&self) -> Result<()> {
        check_length("/reason", self.reason.as_deref())?;
        if self.reason.is_some() && !matches!(self.action, Action::Cancel) {
            return Err(Problem::body("/reason", "only `cancel` takes a reason"));
        }
        if self.ids.is_some() == self.filter.is_some() {
            return Err(Problem::body("", "exactly one of `ids` and `filter` is required"));
        }
        for (pointer, is_there) in [("/limit", self.limit.is_some()), ("/cursor", self.cursor.is_some())] {
            if self.ids.is_some() && is_there {
                return Err(Problem::body(pointer, "belongs to `filter`"));
            }
        }
        if self.limit.is_some_and(|limit| !(1..=RUNS_MAX).contains(&limit)) {
            return Err(Problem::body("/limit", format!("must be between 1 and {RUNS_MAX}")));
        }
        if self.ids.as_ref().is_some_and(|ids| ids.len() > RUNS_MAX as usize) {
            return Err(Problem::body("/ids", format!("more than {RUNS_MAX} runs")));
        }
        Ok(())
    }

    fn command(&self) -> Command {
        match self.action {
            Action::Pause => Command::Pause,
            Action::Resume => Command::Resume,
            Action::Cancel => Command::Cancel { reason: self.reason.clone() },
            Action::Retry => Command::Retry { node: None },
        }
    }
}

impl Filter {
    fn parameters(&self) -> Result<Query> {
        let many = [("status", &self.status), ("label", &self.label)];
        let many = many.into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let one = [
            ("workflow", &self.workflow),
            ("parent", &self.parent),
            ("created_after", &self.created_after),
            ("created_before", &self.created_before),
            ("text", &self.text),
        ];
        let one = one.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        Query::of(many.chain(one).map(|(name, value)| (name.to_owned(), value.clone())).collect())
    }
}

/// The runs that are meant, and where to go on.
async fn choose(app: &Shared, deed: &Deed, body: &BulkBody) -> Result<(Vec<RunId>, Option<String>)> {
    let Some(filter) = &body.filter else {
        let mut ids: Vec<RunId> = body.ids.iter().flatten().map(|id| RunId(*id)).collect();
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(*id));
        return Ok((ids, None));
    };
    let filter =
        filter.parameters().and_then(|mut query| read_filter(&mut query)).map_err(into_filter_problem)?;
    let tenant = deed.caller.tenant;
    let list = app.list(tenant, "bulk", format!("{filter:?}"));
    let before = body.cursor.as_deref().map(|cursor| list.open(cursor, parse_run_id)).transpose()?;
    let limit = body.limit.unwrap_or(RUNS_DEFAULT);
    let rows = app.store.list_runs(tenant, &filter, before, limit + 1).await?;
    let is_last = rows.len() <= limit as usize;
    let ids: Vec<RunId> = rows.into_iter().take(limit as usize).map(|row| row.id).collect();
    let next_cursor = ids.last().filter(|_| !is_last).map(|id| list.seal(&id.to_string()));
    Ok((ids, next_cursor))
}

/// A parameter that stands in the body has a pointer.
fn into_filter_problem(problem: Problem) -> Problem {
    let faults = problem.faults().iter().filter_map(|fault| Some((fault.parameter.as_ref()?, &fault.detail)));
    let begun = Problem::new(Code::InvalidBody, "The body does not have the right shape.");
    faults.fold(begun, |problem, (name, detail)| problem.at(format!("/filter/{name}"), detail))
}

/// The second value says that an earlier request with the same key did it.
async fn tell(app: &Shared, deed: &Deed, body: &BulkBody, run_id: RunId) -> Result<(BulkItem, bool)> {
    let command = |_: &Plan, _: &RunState| Ok(body.command());
    let told = if body.dry_run {
        consider(app, run_id, deed, &command).await.map(|decision| (decision.receipt.status, false))
    } else {
        tell_once(app, deed, run_id, command).await
    };
    match told {
        Ok((status, is_replayed)) => Ok((BulkItem { run_id, fate: Fate::Done { status } }, is_replayed)),
        Err(problem) if is_of_one_run(&problem) => {
            let fate = Fate::Refused {
                code: problem.code().as_str(),
                detail: problem.detail().to_owned(),
                status: problem.run_status(),
            };
            Ok((BulkItem { run_id, fate }, false))
        }
        Err(problem) => Err(problem),
    }
}

/// Whether the next run may fare better.
fn is_of_one_run(problem: &Problem) -> bool {
    match problem.code() {
        Code::Contended => true,
        Code::IdempotencyKeyReused => false,
        code => code.status() < 500,
    }
}

async fn tell_once(
    app: &Shared,
    deed: &Deed,
    run_id: RunId,
    command: impl Fn(&Plan, &RunState) -> Result<Command>,
) -> Result<(RunStatus, bool)> {
    if let Some(status) = told_before(app, deed, run_id).await? {
        return Ok((status, true));
    }
    let remember =
        |receipt: &Receipt| deed.remember_as(deed.part(run_id), deed.digest(), StatusCode::OK, receipt, None);
    match record(app, run_id, deed, remember, command).await? {
        Some(receipt) => Ok((receipt.status, false)),
        None => {
            let status = told_before(app, deed, run_id).await?;
            Ok((status.ok_or_else(|| Problem::internal(&"a reply is gone that was there"))?, true))
        }
    }
}

async fn told_before(app: &Shared, deed: &Deed, run_id: RunId) -> Result<Option<RunStatus>> {
    let reply = deed.reply_of(app, deed.part(run_id), &deed.digest()).await?;
    Ok(reply.and_then(|reply| RunStatus::parse(reply.body["status"].as_str()?)))
}
