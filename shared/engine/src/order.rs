//! A run that nobody asks for at the door: which definition it runs, and whether its inputs fit.

use std::sync::Arc;

use serde_json::{Value, json};
use windlass_model::payload::PAYLOAD_BYTES_MAX;
use windlass_model::{Payload, Plan, StepError, TenantId, VersionId};
use windlass_store::{PlanError, Plans, Store, StoreError};

/// The definition that a new run is pinned to.
pub struct Found {
    pub id: VersionId,
    pub name: String,
    pub version: Option<u32>,
    pub plan: Arc<Plan>,
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Asking again would not help.
    #[error("{}", .0.message)]
    Refused(StepError),
}

/// Finds a version of a published workflow, or its latest.
///
/// # Errors
/// [`OrderError::Refused`] when there is none, or when it cannot be run.
pub async fn find(
    store: &dyn Store,
    plans: &Plans,
    tenant: TenantId,
    workflow: &str,
    version: Option<u32>,
) -> Result<Found, OrderError> {
    let refused = |kind: &str, sentence: String| OrderError::Refused(StepError::new(kind, sentence));
    let row = store.get_version(tenant, workflow, version).await?.ok_or_else(|| {
        let sentence = match version {
            Some(version) => format!("there is no version {version} of a workflow `{workflow}`"),
            None => format!("there is no workflow `{workflow}`"),
        };
        refused("workflow.unknown", sentence)
    })?;
    let plan = plans.of(&row).map_err(|error| match error {
        PlanError::Invalid { problem, .. } => refused("workflow.invalid", problem),
        other => refused("internal", other.to_string()),
    })?;
    Ok(Found { id: row.id, name: row.name, version: row.version, plan })
}

/// The inputs of a new run, with the defaults of its definition.
///
/// # Errors
/// When they are not what the definition takes, or too large.
pub fn check_inputs(plan: &Plan, mut inputs: Value) -> Result<Payload, StepError> {
    if !inputs.is_object() {
        let sentence = "what `with` gives must be an object: the inputs by their names";
        return Err(StepError::new("schema.input", sentence));
    }
    let broken = plan.complete_inputs(&mut inputs);
    if !broken.is_empty() {
        let list: Vec<_> = broken.iter().map(|it| format!("inputs{}: {}", it.pointer, it.detail)).collect();
        return Err(StepError::new("schema.input", list.join("; ")).with_details(json!(broken)));
    }
    let inputs = Payload::new(inputs);
    if let Payload::Blob { blob, .. } = &inputs
        && blob.size_bytes > PAYLOAD_BYTES_MAX as u64
    {
        let sentence = format!("the inputs have {} bytes; {PAYLOAD_BYTES_MAX} are allowed", blob.size_bytes);
        return Err(StepError::new("limit.inputs", sentence));
    }
    Ok(inputs)
}
