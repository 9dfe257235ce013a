//! Definitions that are published anew while runs of the old ones are under way.

use windlass_model::Event;
use windlass_store::RunRow;

use crate::fleet::Fleet;

/// I26: whether every log speaks of steps that the definition of its run has. Of one that does not, nothing more can be said.
pub(super) fn fit_the_logs(fleet: &Fleet) -> bool {
    let mut fit = true;
    for row in fleet.runs() {
        let count = fleet.entry(row.version_id).plan.nodes.len();
        let is_known = |event: &Event| event.node.is_none_or(|node| node.at() < count);
        if let Some(event) = fleet.events(row.id).into_iter().find(|event| !is_known(event)) {
            fleet.world.complain(format!(
                "I26: event {} of {} ({}) is about step {:?}, and its definition has {count}",
                event.seq, row.id, row.workflow, event.node
            ));
            fit = false;
        }
    }
    fit
}

/// I26: a run keeps the definition that it began with, and does what that says.
pub(super) fn were_kept(fleet: &Fleet, row: &RunRow) {
    let complain = |what: String| fleet.world.complain(format!("I26: {} ({}) {what}", row.id, row.workflow));
    match fleet.world.pinned(row.id) {
        Some(version) if version != row.version_id => {
            complain(format!("began under {version:?}, and is of {:?}", row.version_id));
        }
        Some(_) => {}
        None => complain("was never seen to begin".to_owned()),
    }
    let plan = &fleet.entry(row.version_id).plan;
    for effect in fleet.world.outside.effects_of(&row.id.to_string()) {
        let node = effect.path.split('[').next().unwrap_or_default();
        if plan.find(node).is_none() {
            complain(format!("did {}, which its definition does not have", effect.path));
        }
    }
    if fleet.newest_of(row).is_some_and(|newest| newest != row.version_id) {
        fleet.world.reach.hit("run_of_an_older_definition");
    }
}
