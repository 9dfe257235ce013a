//! What a run and its children tell each other: that a child has ended, and that it shall stop.
//!
//! Both stand in the database before they are told, so that whoever looks again finds them: the end of a child on its
//! own row until the parent has taken it in, the wish that it stops in the log of the parent.

use tracing::{debug, error};
use windlass_bus::Bus;
use windlass_model::{Actor, Command, Input, Ring, RunId, RunState, SessionId, TenantId, decide};
use windlass_store::{Guard, RunRecord, RunWrite, StoreError, WriteError};

use crate::engine::EngineParts;
use crate::patience::{RETRY_PAUSE, patiently};

/// Wakes the parent of a run that has just ended. Should this get lost, the sweep finds it.
pub(crate) async fn tell_parent(parts: &EngineParts, tenant: TenantId, parent: RunId) {
    match parts.store.get_run(tenant, parent).await {
        Ok(Some(row)) => rouse(&*parts.bus, row.lease_owner, row.ring()),
        Ok(None) => {}
        Err(error) => debug!(run.id = %parent, error = %error, "Parent not told; the sweep will find it"),
    }
}

/// Has a run looked at: by the engine that holds it, or by any.
pub(crate) fn rouse(bus: &dyn Bus, lease_owner: Option<SessionId>, ring: Ring) {
    match lease_owner {
        Some(session) => bus.poke(session, ring),
        None => bus.ring(ring),
    }
}

/// Cancels a run as a person would. Returns when that is in its log, or when it needs no cancel any more.
pub(crate) async fn recall(parts: &EngineParts, tenant: TenantId, child: RunId, because: &str) {
    loop {
        let record = match patiently(|| parts.store.load_run(tenant, child)).await {
            Ok(Some(record)) if !record.row.status.is_terminal() => record,
            Ok(_) => return,
            Err(error) => return error!(run.id = %child, error = %error, "Run cannot be asked to stop"),
        };
        match cancel(parts, record, because).await {
            Ok(()) => return,
            Err(WriteError::Moved | WriteError::KeyTaken | WriteError::Fenced) => {}
            Err(WriteError::Store(StoreError::Unavailable(_))) => tokio::time::sleep(RETRY_PAUSE).await,
            Err(error) => return error!(run.id = %child, error = %error, "Run cannot be asked to stop"),
        }
    }
}

async fn cancel(parts: &EngineParts, record: RunRecord, because: &str) -> Result<(), WriteError> {
    let RunRecord { row, snapshot, events } = record;
    let damaged = |problem: String| WriteError::Store(StoreError::Damaged(problem));
    let plan =
        patiently(|| parts.plans.get(row.version_id)).await.map_err(|error| damaged(error.to_string()))?;
    let mut state =
        RunState::fold(&plan, row.id, snapshot, &events).map_err(|error| damaged(error.to_string()))?;
    let command = Command::Cancel { reason: Some(because.to_owned()) };
    let input = Input::Command { command, actor: Actor::engine() };
    let Ok(events) = decide(&plan, &mut state, input, parts.clock.now()) else {
        // It stops already.
        return Ok(());
    };
    let held = row.lease_owner.is_some();
    let write = RunWrite::new(row.tenant, Guard::Door, row.version, &plan, &state, events.clone(), held);
    parts.store.write_run(write).await?;
    parts.bus.publish(row.id, events);
    rouse(&*parts.bus, row.lease_owner, row.ring());
    Ok(())
}
