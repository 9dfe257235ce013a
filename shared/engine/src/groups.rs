//! Lets runs of a concurrency group in when there are places, and asks those to stop that a newer run replaces.
//!
//! Who has a place, and that one was freed, stands in the database before anybody is told: whoever looks again finds it.

use windlass_model::TenantId;
use windlass_store::{Admissions, Newcomer, StoreError};

use crate::engine::EngineParts;
use crate::family;
use crate::patience::patiently;

/// Why a run is canceled that stands in the way of a newer one.
const REPLACED: &str = "a newer run of its concurrency group takes its place";

/// Looks at a group. A newcomer asks for a place from now on, and waits until the database has answered.
pub(crate) async fn admit(
    parts: &EngineParts,
    tenant: TenantId,
    group: &str,
    newcomer: Option<Newcomer>,
) -> Result<Admissions, StoreError> {
    let ask = || parts.store.admit_runs(tenant, group, newcomer.clone());
    // Should it have happened all the same, the next look finds it so.
    let admissions = if newcomer.is_some() { patiently(ask).await? } else { ask().await? };
    for admitted in &admissions.admitted {
        parts.bus.publish(admitted.ring.run_id, vec![admitted.event.clone()]);
        let is_newcomer = newcomer.as_ref().is_some_and(|it| it.run_id == admitted.ring.run_id);
        if !is_newcomer {
            family::rouse(&*parts.bus, admitted.lease_owner, admitted.ring);
        }
    }
    for run_id in &admissions.in_the_way {
        family::recall(parts, tenant, *run_id, REPLACED).await;
    }
    Ok(admissions)
}
