//! People set what steps of a paused run come to, and what its machine remembers.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use windlass_model::{Command, Payload, Plan, RunState};

use super::carry_out::carry_out;
use crate::app::Shared;
use crate::body::escape;
use crate::idempotency::Deed;
use crate::openapi::{Conflict, NotFound};
use crate::problem::{Problem, Result};
use crate::query::{At, Query};
use crate::view::Receipt;

/// Either `steps` or `context` says something.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditBody {
    /// By the id of the node.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, StepEdit>)]
    steps: BTreeMap<String, StepEdit>,
    /// Members of a machine's context; others stay as they are.
    #[serde(default)]
    #[schema(value_type = Object)]
    context: Map<String, Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StepEdit {
    /// What the step comes to: any JSON, checked against the node's `output_schema`.
    output: Value,
}

/// Edit the state of a paused run
///
/// A step that has ended keeps its status, and whoever runs after it reads the new output. A step that has not ended,
/// and that nothing works on, succeeds with it. The run stays paused: resume it when all is as it should be.
#[utoipa::path(post, path = "/v1/workflow-runs/{id}/state", operation_id = "edit_run", tag = "commands",
    params(("id" = Uuid, Path)),
    request_body(content = EditBody, example = json!({"steps": {"greet": {"output": {"text": "Hello"}}}})),
    responses((status = 200, description = "It is in the log.", body = Receipt), NotFound, Conflict))]
pub(crate) async fn edit(State(app): State<Shared>, at: At, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let body: EditBody = deed.json()?;
    if body.steps.is_empty() && body.context.is_empty() {
        return Err(Problem::body("", "`steps` or `context` is required"));
    }
    let edit = |plan: &Plan, _: &RunState| {
        let outputs = body.steps.iter().map(|(id, step)| {
            let unknown = || Problem::body(format!("/steps/{}", escape(id)), "the workflow has no such node");
            let node = plan.find(id).ok_or_else(unknown)?;
            Ok((node.index, Payload::new(step.output.clone())))
        });
        Ok(Command::Edit { outputs: outputs.collect::<Result<_>>()?, context: body.context.clone() })
    };
    carry_out(&app, at.run_id()?, &deed, edit).await
}
