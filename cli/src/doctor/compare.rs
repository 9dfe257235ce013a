//! A run's row against the fold of its log, and whether anything can wake the run.

use serde_json::{Value, json};
use windlass_model::present::machine::machine_view;
use windlass_model::{Epoch, Plan, RunId, RunState, RunStatus};
use windlass_store::{Damage, Projection, RunRow};

/// Whether damage of this kind is gone once everything that follows from the run's log is written anew.
pub(super) fn follows_from_log(kind: &str) -> bool {
    matches!(
        kind,
        "row_differs"
            | "log_differs"
            | "log_gap"
            | "status_mismatch"
            | "snapshot_differs"
            | "snapshot_ahead"
            | "approvals_differ"
            | "approval_left_open"
            | "approval_unrequested"
            | "child_end_lost"
    )
}

pub(super) fn compare(row: &RunRow, plan: &Plan, state: &RunState) -> Vec<Damage> {
    let mut findings = Vec::new();
    let mut find = |kind: &str, detail: String| findings.push(Damage::new(kind, row.id, detail));
    if row.next_seq != state.last_seq.next() {
        let (next, last) = (row.next_seq, state.last_seq);
        find("log_differs", format!("the row expects event {next} next, the log ends at {last}"));
    }
    let held = row.lease_owner.is_some();
    let should =
        in_words(&Projection::of(state, held), state.epoch, state.parent.as_ref().map(|it| it.run_id));
    let is = Projection {
        status: row.status,
        paused_reason: row.paused_reason,
        wake_at: row.wake_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        error: row.error.clone(),
    };
    for (name, is, should) in differences(&in_words(&is, row.epoch, row.parent), &should) {
        // A claim calls a run running before its engine has looked at it.
        let just_claimed = held && state.just_taken && matches!(name, "status" | "started_at");
        if !just_claimed {
            find("row_differs", format!("{name} is {is}, its log says {should}"));
        }
    }
    if is_forgotten(plan, state) {
        find("nothing_wakes", "the run waits, but for no time, no person, no signal and no child".into());
    }
    findings
}

/// Whether nothing and nobody will ever move it.
fn is_forgotten(plan: &Plan, state: &RunState) -> bool {
    let by_somebody =
        state.all_steps().any(|(_, step)| step.gate.as_ref().is_some_and(|gate| gate.outcome.is_none()))
            || !state.listening.is_empty()
            || !state.children.is_empty()
            || machine_view(plan, state).is_some_and(|machine| !machine.events.is_empty());
    state.status(false) == RunStatus::Waiting && !by_somebody && state.wake_at().is_none()
}

const COMPARED: [&str; 8] =
    ["status", "paused_reason", "wake_at", "started_at", "ended_at", "error", "epoch", "parent"];

fn in_words(it: &Projection, epoch: Epoch, parent: Option<RunId>) -> Value {
    json!({
        "status": it.status, "paused_reason": it.paused_reason, "wake_at": it.wake_at,
        "started_at": it.started_at, "ended_at": it.ended_at, "error": it.error,
        "epoch": epoch.0, "parent": parent.map(|id| id.to_string()),
    })
}

fn differences(is: &Value, should: &Value) -> Vec<(&'static str, String, String)> {
    COMPARED
        .into_iter()
        .filter(|name| is[name] != should[name])
        .map(|name| (name, is[name].to_string(), should[name].to_string()))
        .collect()
}
