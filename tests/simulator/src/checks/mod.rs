//! What must hold: of each run at any moment, and of what everybody was told in the end.
//!
//! Rules that any log must keep stand in [`scenarios::check`], which stories and chaos use as well. Here is what
//! only somebody can check who sees everything: the database, everybody's memory, and the world outside.

mod asked;
mod definitions;
mod family;
mod going_on;
mod groups;
mod limits;
mod logs;
mod reached;
mod tenants;

use std::collections::BTreeSet;

use futures::FutureExt;
use scenarios::check::{self, Record};
use scenarios::{Event, Log};
use serde_json::json;
use windlass_model::{RunState, present};
use windlass_store::{Integrity, Projection, RunRow, Schedules};

use crate::fleet::Fleet;
use crate::people::People;
use crate::workflows::Entry;

/// Messages of the database about itself that are worth reading.
const DAMAGE_MAX: u32 = 10;

pub(crate) use family::owes_its_family;
pub(crate) use groups::could_enter;

/// Safety: holds whatever is going on.
pub(crate) fn at_any_moment(fleet: &Fleet) {
    if !definitions::fit_the_logs(fleet) {
        return;
    }
    for row in fleet.runs() {
        check_run(fleet, &row);
    }
    groups::keep_their_bounds(fleet);
    limits::open_runs_are_counted(fleet);
    family::has_one_child_per_attempt(fleet);
}

/// Everything has ended.
pub(crate) fn at_the_end(fleet: &Fleet, people: &People) {
    if !definitions::fit_the_logs(fleet) {
        return;
    }
    for row in fleet.runs() {
        let log = check_run(fleet, &row);
        reached::count(&fleet.world.reach, &log);
        asked::told_what_is_true(fleet, people, &row, &log);
        asked::watchers_saw_it_all(fleet, people, &row, &log);
        logs::was_told_outside(fleet, &row, &log);
        family::came_to_what_its_children_did(fleet, &row, &log);
        family::lists_are_complete(fleet, &row, &log);
        going_on::has_what_was_before(fleet, people, &row, &log);
        definitions::were_kept(fleet, &row);
        going_on::edits_hold(fleet, &row);
    }
    limits::everything_had_its_turn(fleet);
    tenants::keep_apart(fleet);
    asked::starts_made_one_run_each(fleet, people);
    asked::runs_went_on_once(fleet, people);
    let damage = fleet.world.database.find_damage(DAMAGE_MAX).now_or_never().expect("at once");
    for damage in damage.expect("never away") {
        fleet.world.complain(format!("I13: {} {}: {}", damage.kind, damage.subject, damage.detail));
    }
}

/// Whether the time of a schedule has come, and nobody has seen to it.
pub(crate) fn has_due_schedule(fleet: &Fleet) -> bool {
    let due = fleet.world.database.find_due_schedules(1).now_or_never().expect("at once");
    !due.expect("never away").is_empty()
}

/// Whether something waits in the outbox.
pub(crate) fn has_untold(fleet: &Fleet) -> bool {
    let told = fleet.world.outside.told();
    let emitted = |row: &RunRow| {
        let events = fleet.events(row.id);
        let seqs = events.into_iter().filter(|event| event.body.name() == "event.emitted");
        seqs.map(|event| format!("{}/{}", row.id, event.seq)).collect::<Vec<_>>()
    };
    fleet
        .runs()
        .iter()
        .filter(|row| row.workflow == "news")
        .flat_map(emitted)
        .any(|id| !told.contains_key(&id))
}

/// Holds one run against every rule about logs, and its row against its log.
fn check_run(fleet: &Fleet, row: &RunRow) -> Log {
    let entry = fleet.entry(row.version_id);
    let events = fleet.events(row.id);
    let envelopes = events.iter().map(|event| present::envelope(&entry.plan, row.id, event));
    let log = Log(envelopes.map(|envelope| Event::from_envelope(&envelope)).collect());
    let shown = json!({
        "id": row.id,
        "status": row.status,
        "ended_at": row.ended_at,
        "moved_to": log.0.last().map(|end| &end.body["moved_to"]),
    });
    let show = |child: &RunRow| json!({"id": child.id, "status": child.status, "parent_run_id": row.id});
    let children = fleet.children(row.id).iter().map(show).collect();
    let effects = fleet.world.outside.effects_of(&row.id.to_string());
    let mut record = Record::new(shown, log, Some(entry.source.clone()), effects);
    record.children = children;
    for complaint in check::violations(&record) {
        fleet.world.complain(format!("log of {} ({}): {complaint}", row.id, row.workflow));
    }
    for complaint in logs::attempts_keep_the_policy(&record, entry) {
        fleet.world.complain(format!("I15: {} ({}): {complaint}", row.id, row.workflow));
    }
    row_is_the_fold(fleet, row, entry, &events);
    record.log
}

/// I11: the row is a projection of the log, and so is the inbox.
fn row_is_the_fold(fleet: &Fleet, row: &RunRow, entry: &Entry, events: &[windlass_model::Event]) {
    let complain = |what: String| {
        fleet.world.complain(format!("I11: {} ({}): {what}", row.id, row.workflow));
    };
    let state = match RunState::fold(&entry.plan, row.id, None, events) {
        Ok(state) => state,
        Err(error) => return complain(format!("its log cannot be folded: {error}")),
    };
    if row.next_seq != state.last_seq.next() || row.epoch != state.epoch {
        complain(format!(
            "row {}/{}, log {}/{}",
            row.next_seq,
            row.epoch,
            state.last_seq.next(),
            state.epoch
        ));
    }
    let of_row = Projection {
        status: row.status,
        paused_reason: row.paused_reason,
        wake_at: row.wake_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        error: row.error.clone(),
    };
    let mut of_log = Projection::of(&state, false);
    if row.lease_owner.is_some() {
        // Whether it runs or waits, and until when, is for whoever holds it to say.
        of_log.status = row.status;
        of_log.wake_at = row.wake_at;
    }
    if of_row != of_log {
        complain(format!("the row says {of_row:?}, the log {of_log:?}"));
    }
    let waits = entry.plan.nodes.iter().filter(|node| {
        let step = state.step(node.index);
        let open = step.gate.as_ref().is_some_and(|gate| gate.outcome.is_none());
        // A run that another one took the place of has ended where it stood.
        open && step.status == windlass_model::StepStatus::Waiting && !state.is_terminal()
    });
    let of_log: BTreeSet<String> = waits.map(|node| node.id.clone()).collect();
    let of_inbox: BTreeSet<String> = fleet.open_gates(row.id).into_iter().map(|gate| gate.node).collect();
    if of_log != of_inbox {
        complain(format!("the inbox shows {of_inbox:?}, open are {of_log:?}"));
    }
}
