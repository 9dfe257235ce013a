//! The state machine of a run: where it stands, what it remembers, what may be sent to it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa::ToSchema;
use windlass_model::present;

use crate::actor::Caller;
use crate::app::Shared;
use crate::openapi::NotFound;
use crate::problem::{Problem, Result};
use crate::query::{At, Query};

/// Describes [`present::machine::MachineView`].
#[derive(ToSchema)]
#[schema(as = Machine)]
#[expect(dead_code, reason = "describes what the model serializes")]
pub(crate) struct MachineView {
    /// Paths of the active states that have nothing active in them, such as `review.legal.open`, in the order of
    /// the definition.
    states: Vec<String>,
    /// What the machine remembers.
    #[schema(value_type = Value)]
    context: serde_json::Value,
    /// What an active state has a transition for; its guard may still say no. Sent as signals.
    events: Vec<AvailableEvent>,
    timers: Vec<RunningTimer>,
    /// Nodes that active states have invoked and that have not ended.
    invoked: Vec<String>,
    is_done: bool,
    /// What its last state left behind.
    #[schema(value_type = Value)]
    output: serde_json::Value,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
struct AvailableEvent {
    name: String,
    /// JSON Schema of what it must bring; null when anything will do.
    #[schema(value_type = Value)]
    schema: serde_json::Value,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the model serializes")]
struct RunningTimer {
    state: String,
    #[schema(format = DateTime)]
    at: String,
}

/// Read where the state machine of a run stands
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/machine", operation_id = "get_machine", tag = "runs",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "The machine as it is now.", body = MachineView), NotFound))]
pub(crate) async fn get(State(app): State<Shared>, caller: Caller, at: At, query: Query) -> Result<Response> {
    query.finish()?;
    let run = app.fold_run(caller.tenant, at.run_id()?).await?;
    let view = present::machine::machine_view(&run.plan, &run.state);
    Ok(Json(view.ok_or_else(|| Problem::not_found("machine"))?).into_response())
}
