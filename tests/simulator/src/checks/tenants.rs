//! Two tenants in one database, under the same names.

use std::collections::BTreeSet;

use futures::FutureExt;
use windlass_model::circuit::CircuitKey;
use windlass_store::{Circuits, RunRow, ScheduleRow, Schedules};

use crate::fleet::Fleet;
use crate::whose::Whose;

/// I20: nothing of one leads to anything of the other.
pub(super) fn keep_apart(fleet: &Fleet) {
    let [ours, theirs] = Whose::ALL.map(|whose| fleet.runs_of(whose));
    if theirs.is_empty() {
        return;
    }
    for (rows, strangers) in [(&ours, &theirs), (&theirs, &ours)] {
        for row in rows {
            has_nothing_foreign(fleet, row, strangers);
        }
    }
    let schedules = Whose::ALL.map(|whose| schedules(fleet, whose));
    for (row, strangers) in
        schedules[0].iter().map(|row| (row, &theirs)).chain(schedules[1].iter().map(|row| (row, &ours)))
    {
        if strangers.iter().any(|stranger| row.last_run_id == Some(stranger.id)) {
            fleet
                .world
                .complain(format!("I20: {} of {:?} started {:?}", row.name, row.tenant, row.last_run_id));
        }
    }
    count(fleet, &ours, &theirs, &schedules);
}

fn has_nothing_foreign(fleet: &Fleet, row: &RunRow, strangers: &[RunRow]) {
    let complain = |what: String| fleet.world.complain(format!("I20: {} ({}) {what}", row.id, row.workflow));
    if !fleet.is_of(row.version_id, row.tenant) {
        complain(format!("of {:?} does what {:?} says", row.tenant, row.version_id));
    }
    if strangers.iter().any(|stranger| row.parent == Some(stranger.id)) {
        complain(format!("was started by {:?}", row.parent));
    }
    for event in fleet.events(row.id) {
        let text = format!("{event:?}");
        if let Some(stranger) = strangers.iter().find(|stranger| text.contains(&stranger.id.to_string())) {
            complain(format!("speaks of {}: {text}", stranger.id));
        }
        if event.actor.as_ref().is_some_and(|actor| actor.id().starts_with("stranger-")) {
            complain(format!("was moved by a stranger: {text}"));
        }
    }
}

fn schedules(fleet: &Fleet, whose: Whose) -> Vec<ScheduleRow> {
    let rows = fleet.world.database.list_schedules(whose.tenant(), None, u32::MAX).now_or_never();
    rows.expect("at once").expect("never away")
}

/// Which names both have used.
fn count(fleet: &Fleet, ours: &[RunRow], theirs: &[RunRow], schedules: &[Vec<ScheduleRow>; 2]) {
    let reach = &fleet.world.reach;
    let keys = |rows: &[RunRow]| rows.iter().filter_map(|row| row.labels.get("start").cloned()).collect();
    let groups = |rows: &[RunRow]| {
        let groups = rows.iter().filter_map(|row| fleet.fold(row.id)?.group);
        groups.map(|group| group.name).collect()
    };
    let circuits = |whose: Whose| -> BTreeSet<String> {
        let all = fleet.world.database.list_circuits(whose.tenant(), None, u32::MAX).now_or_never();
        let all = all.expect("at once").expect("never away");
        all.into_iter().map(|(key, _): (CircuitKey, _)| key.name).collect()
    };
    let names = |rows: &[ScheduleRow]| rows.iter().map(|row| row.name.clone()).collect();
    let pairs: [(&'static str, [BTreeSet<String>; 2]); 4] = [
        ("one_key_of_two_tenants", [keys(ours), keys(theirs)]),
        ("one_group_of_two_tenants", [groups(ours), groups(theirs)]),
        ("one_circuit_of_two_tenants", Whose::ALL.map(circuits)),
        ("one_schedule_of_two_tenants", [names(&schedules[0]), names(&schedules[1])]),
    ];
    for (what, [a, b]) in pairs {
        if !a.is_disjoint(&b) {
            reach.hit(what);
        }
    }
}
