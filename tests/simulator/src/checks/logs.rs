//! What else a log must keep, when its definition and the world outside are at hand.

use std::collections::BTreeMap;

use scenarios::Log;
use scenarios::check::Record;
use windlass_store::RunRow;

use crate::fleet::Fleet;
use crate::workflows::Entry;

/// I15: no more attempts fail than the definition allows, unless a person, or a rule, asks for more.
pub(super) fn attempts_keep_the_policy(record: &Record, entry: &Entry) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut failures: BTreeMap<&str, u16> = BTreeMap::new();
    for (at, event) in record.log.0.iter().enumerate() {
        let Some(node) = event.node.as_deref() else {
            if event.is("run.resumed") {
                failures.clear();
            }
            continue;
        };
        let by_a_rule = record.log.0[at.saturating_sub(1)].is("error.routed");
        match event.verb() {
            "failed" | "timed_out" => *failures.entry(node).or_default() += 1,
            "retry_scheduled" if event.is_by_a_person() || by_a_rule => {
                failures.remove(node);
            }
            "retry_scheduled" => {
                // A gate of an error rule that was opened asks for one more, at once.
                let asked = record.log.has("approval.requested", node);
                let pauses = entry.plan.find(node).is_some_and(|node| !node.retry.backoff.initial.is_zero());
                if pauses && !asked && event.body["at"] == event.at_text() {
                    complaints.push(format!("{event} at {} leaves no pause", event.seq));
                }
                let id = node.split('[').next().unwrap_or(node);
                let max = entry.plan.find(id).map_or(0, |node| node.retry.max_attempts);
                let failed = failures.get(node).copied().unwrap_or(0);
                if failed >= max && !asked {
                    complaints.push(format!("{event} at {} after {failed} failures of {max}", event.seq));
                }
            }
            _ => {}
        }
    }
    complaints
}

/// I13: what was emitted was told outside, and nothing else.
pub(super) fn was_told_outside(fleet: &Fleet, row: &RunRow, log: &Log) {
    let told = fleet.world.outside.told();
    let prefix = format!("{}/", row.id);
    for event in log.0.iter().filter(|event| event.is("event.emitted")) {
        if !told.contains_key(&format!("{prefix}{}", event.seq)) {
            fleet.world.complain(format!("I13: {event} at {} of {} was never told", event.seq, row.id));
        }
    }
    for id in told.keys().filter_map(|id| id.strip_prefix(&prefix)) {
        let is_there = log.0.iter().any(|event| event.is("event.emitted") && event.seq.to_string() == id);
        if !is_there {
            fleet.world.complain(format!("I13: {prefix}{id} was told, and is not in the log"));
        }
    }
}
