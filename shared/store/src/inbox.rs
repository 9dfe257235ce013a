//! The inbox of one run: its gates, and what became of them.

use windlass_model::state::FoldError;
use windlass_model::{Event, Plan, RunId, RunState, Timestamp, planted};

use crate::{ApprovalChange, ApprovalDecision, ApprovalRow};

/// All gates of a run by its log, which begins with its first event.
///
/// # Errors
/// When the log cannot be folded.
pub fn inbox_of(plan: &Plan, run_id: RunId, log: &[Event]) -> Result<Vec<ApprovalRow>, FoldError> {
    let mut inbox = Vec::new();
    let Some((first, rest)) = log.split_first() else { return Ok(inbox) };
    let mut state = RunState::created(plan, run_id, first)?;
    for event in rest {
        state.apply(plan, event)?;
        let events = std::slice::from_ref(event);
        for change in ApprovalChange::from_events(plan, &state, events) {
            take_in(&mut inbox, (run_id, &plan.name), change, events, event.at);
        }
    }
    Ok(inbox)
}

/// Changes the inbox of a run, whose workflow is named, as one write asks.
pub(crate) fn take_in(
    inbox: &mut Vec<ApprovalRow>,
    (run_id, workflow): (RunId, &str),
    change: ApprovalChange,
    events: &[Event],
    now: Timestamp,
) {
    match change {
        ApprovalChange::Opened { node, attempt, seq, expires_at } => {
            close(inbox, now, ApprovalDecision::Withdrawn, None, |row| row.node == node);
            let requested = events.iter().find(|event| event.seq == seq);
            inbox.push(ApprovalRow {
                run_id,
                workflow: workflow.to_owned(),
                node,
                attempt,
                seq,
                requested_at: requested.map_or(now, |event| event.at),
                expires_at,
                decided_at: None,
                decision: None,
                decided_by: None,
            });
        }
        ApprovalChange::Closed { node, attempt, decision, by } => {
            close(inbox, now, decision, by, |row| row.node == node && row.attempt == attempt);
        }
        ApprovalChange::ClosedAll => close(inbox, now, ApprovalDecision::Withdrawn, None, |_| true),
    }
}

fn close(
    inbox: &mut [ApprovalRow],
    now: Timestamp,
    decision: ApprovalDecision,
    by: Option<String>,
    which: impl Fn(&ApprovalRow) -> bool,
) {
    if planted("decided_gates_stay_in_the_inbox") {
        return;
    }
    for row in inbox.iter_mut().filter(|row| row.decided_at.is_none() && which(row)) {
        row.decided_at = Some(now);
        row.decision = Some(decision);
        row.decided_by = by.clone();
    }
}
