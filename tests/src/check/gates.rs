//! Rules about people's consent.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Record, Report};
use crate::Event;

/// The keys of a node's gate: its own for an approval node, those under `approval` for any other.
fn gate(node: &Value) -> Option<&Value> {
    if node["type"] == "approval" { Some(node) } else { node.get("approval") }
}

/// What goes through a gate needs enough different people before it, or the definition's own leave.
pub(super) fn gates_open_by_consent(record: &Record, report: &mut Report) {
    for (id, event) in record.step_events() {
        let Some(node) = record.node(id) else { continue };
        let Some(gate) = gate(node) else { continue };
        let passes = if node["type"] == "approval" { "step.succeeded" } else { "step.started" };
        if !event.is(passes) {
            continue;
        }
        let consent = consent_before(record, id, event);
        let min = usize::try_from(gate["approvers"]["min"].as_u64().unwrap_or(1)).unwrap_or(usize::MAX);
        let allowed = match consent {
            Consent::NotAsked => !gate["auto_approve_if"].is_null(),
            Consent::ByTime => gate["on_timeout"] == "approve",
            Consent::By(people) => people.len() >= min,
        };
        report.unless(allowed, || format!("{event} at {} went through its gate without consent", event.seq));
    }
}

enum Consent {
    NotAsked,
    ByTime,
    By(BTreeSet<String>),
}

fn consent_before(record: &Record, node: &str, passage: &Event) -> Consent {
    let before = |event: &&Event| event.is_about(node) && event.seq < passage.seq;
    let Some(asked) = record.events().iter().filter(before).rfind(|event| event.is("approval.requested"))
    else {
        return Consent::NotAsked;
    };
    let answers = || record.events().iter().filter(before).filter(|event| event.seq > asked.seq);
    if answers().any(|event| event.is("approval.expired") && event.body["action"] == "approve") {
        return Consent::ByTime;
    }
    let people = answers()
        .filter(|event| event.is("approval.granted") && event.is_by_a_person())
        .filter_map(|event| event.body["actor"]["id"].as_str().map(str::to_owned))
        .collect();
    Consent::By(people)
}

/// A request for approval gets at most one rejection, and nobody answers it twice or after it was decided.
pub(super) fn gates_are_decided_once(record: &Record, report: &mut Report) {
    for events in record.by_node.values() {
        let mut closed = true;
        let mut people: BTreeSet<&str> = BTreeSet::new();
        for event in events.iter().map(|index| &record.events()[*index]) {
            match event.kind.as_str() {
                "approval.requested" => {
                    closed = false;
                    people.clear();
                }
                "approval.granted" | "approval.rejected" => {
                    report.unless(!closed, || format!("{event} at {} came to a closed gate", event.seq));
                    let who = event.body["actor"]["id"].as_str().unwrap_or_default();
                    report.unless(people.insert(who), || {
                        format!("{event} at {}: {who} answers twice", event.seq)
                    });
                    closed |= event.is("approval.rejected");
                }
                "approval.expired" => closed |= event.body["action"] != "escalate",
                _ if event.is_outcome() || event.is_start() => closed = true,
                _ => {}
            }
        }
    }
}
