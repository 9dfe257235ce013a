//! A run as it is read: its fold, with the large values that expressions may read.

use std::sync::Arc;

use serde_json::Value;
use windlass_model::{Payload, Plan, RunState, TenantId};
use windlass_store::RunRecord;

use super::HoldError;
use crate::engine::Engine;
use crate::patience::patiently;

/// Folds a record, and fetches the large values that expressions may read.
pub(super) async fn fold(engine: &Engine, plan: &Plan, record: RunRecord) -> Result<RunState, HoldError> {
    let RunRecord { row, snapshot, events } = record;
    let mut state = RunState::fold(plan, row.id, snapshot, &events)?;
    for payload in state.missing_payloads(plan) {
        fetch(engine, row.tenant, payload).await?;
    }
    Ok(state)
}

/// Brings the value of a payload that lies in the blob store.
pub(super) async fn fetch(engine: &Engine, tenant: TenantId, payload: &mut Payload) -> Result<(), HoldError> {
    let Payload::Blob { blob, value } = payload else { return Ok(()) };
    let missing = || HoldError::MissingBlob(blob.digest.to_string());
    let content =
        patiently(|| engine.parts.store.get_blob(tenant, &blob.digest)).await?.ok_or_else(missing)?;
    let parsed: Value = serde_json::from_slice(&content).map_err(|_| missing())?;
    *value = Some(Arc::new(parsed));
    Ok(())
}
