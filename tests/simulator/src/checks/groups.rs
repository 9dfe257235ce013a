//! Concurrency groups, over all runs at once.

use std::collections::BTreeMap;

use windlass_model::TenantId;
use windlass_model::concurrency::{Group, Place};
use windlass_store::RunRow;

use crate::fleet::Fleet;

/// I30: no more runs of a group are under way than it has places.
pub(super) fn keep_their_bounds(fleet: &Fleet) {
    for ((_, name), (group, held)) in holders(fleet) {
        if held > group.max as usize {
            fleet
                .world
                .complain(format!("I30: {held} runs have a place in `{name}`, which has {}", group.max));
        }
    }
}

/// Whether a run waits although there is a place for it.
pub(crate) fn could_enter(fleet: &Fleet, row: &RunRow) -> bool {
    let waits = fleet.fold(row.id).filter(|state| !state.is_terminal() && state.place == Place::Awaited);
    let Some(group) = waits.and_then(|state| state.group) else { return false };
    holders(fleet).get(&(row.tenant, group.name)).is_none_or(|(_, held)| *held < group.max as usize)
}

/// How many runs have a place, by whose groups they are and their names.
fn holders(fleet: &Fleet) -> BTreeMap<(TenantId, String), (Group, usize)> {
    let mut holders: BTreeMap<(TenantId, String), (Group, usize)> = BTreeMap::new();
    for row in fleet.runs().iter().filter(|row| !row.status.is_terminal()) {
        let state = fleet.fold(row.id).filter(|state| state.place == Place::Held);
        if let Some(group) = state.and_then(|state| state.group) {
            holders.entry((row.tenant, group.name.clone())).or_insert((group, 0)).1 += 1;
        }
    }
    holders
}
