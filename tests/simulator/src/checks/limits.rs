//! Rate limits and quotas, over all runs at once.

use std::collections::BTreeMap;

use futures::FutureExt;
use windlass_model::event::OriginReason;
use windlass_model::rate_limit::{LimitKey, Limited};
use windlass_model::{RunState, Timestamp};
use windlass_store::{RunRow, Runs};

use crate::fleet::Fleet;
use crate::workflows::Entry;

/// I27: what is counted are the runs that are open.
pub(super) fn open_runs_are_counted(fleet: &Fleet) {
    for whose in fleet.tenants {
        let counted = fleet.world.database.count_open_runs(whose.tenant(), u32::MAX).now_or_never();
        let counted = counted.expect("at once").expect("never away");
        let rows = fleet.runs_of(*whose).iter().filter(|row| !row.status.is_terminal()).count();
        let begun = fleet.world.count_open(whose.tenant());
        if (rows, begun) != (counted as usize, counted as usize) {
            fleet.world.complain(format!(
                "I27: {counted} runs of {whose:?} are counted, {rows} are open, {begun} were begun and have not ended"
            ));
        }
    }
}

/// I33: whatever is limited has a turn of its own, which had come.
pub(super) fn everything_had_its_turn(fleet: &Fleet) {
    let mut done: BTreeMap<LimitKey, Vec<Timestamp>> = BTreeMap::new();
    for row in fleet.runs() {
        let entry = fleet.entry(row.version_id);
        for (key, at) in calls(fleet, &row, entry).into_iter().chain(start(fleet, &row, entry)) {
            done.entry(key).or_default().push(at);
        }
    }
    for (key, mut done) in done {
        done.sort_unstable();
        let turns = fleet.world.turns_of(&key);
        for (nth, at) in done.iter().enumerate() {
            if turns.get(nth).is_none_or(|turn| turn > at) {
                fleet
                    .world
                    .complain(format!("I33: number {} of {key:?} came at {at}, turns at {turns:?}", nth + 1));
                break;
            }
        }
    }
}

/// When what has a limit was called.
fn calls(fleet: &Fleet, row: &RunRow, entry: &Entry) -> Vec<(LimitKey, Timestamp)> {
    let effects = fleet.world.outside.effects_of(&row.id.to_string());
    let of_limited = effects.into_iter().filter_map(|effect| {
        let callee = entry.plan.find(&effect.path)?.callee.as_ref()?;
        callee.rate_limit?;
        let (kind, name) = (Limited::Calls(callee.kind), callee.name.clone());
        Some((LimitKey { tenant: row.tenant, kind, name }, Timestamp(effect.at.as_microsecond())))
    });
    of_limited.collect()
}

/// When a run began that must wait for its turn. One that goes on in the place of another does not.
fn start(fleet: &Fleet, row: &RunRow, entry: &Entry) -> Option<(LimitKey, Timestamp)> {
    entry.plan.rate_limit?;
    let is_moved =
        |state: &RunState| state.origin.as_ref().is_some_and(|origin| origin.because == OriginReason::Move);
    let began_at = fleet.world.began_at(row.id)?;
    let key = LimitKey { tenant: row.tenant, kind: Limited::Runs, name: entry.name.clone() };
    (!fleet.fold(row.id).as_ref().is_some_and(is_moved)).then_some((key, began_at))
}
