//! Rules about what may follow what.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{Record, Report};
use crate::Event;
use crate::definition::Need;

/// A run whose engines have died so often in a row, with work in their hands, is set aside.
const DEATHS_MAX: u32 = 3;

pub(super) fn one_outcome_per_attempt(record: &Record, report: &mut Report) {
    let mut outcomes: BTreeMap<(&str, u64), &Event> = BTreeMap::new();
    for (node, event) in record.step_events().filter(|(_, event)| event.is_outcome()) {
        let Some(attempt) = event.attempt else { continue };
        if let Some(first) = outcomes.insert((node, attempt), event) {
            report.unless(false, || format!("{first} at {} and {event} at {}", first.seq, event.seq));
        }
    }
}

pub(super) fn attempts_follow_each_other(record: &Record, report: &mut Report) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (node, event) in record.step_events() {
        let Some(attempt) = event.attempt else { continue };
        if event.is_start() {
            let before = last.get(node).copied().unwrap_or(0);
            // A gate that was rejected takes an attempt's number without a start.
            let previous_ended = attempt == 1
                || record
                    .outcomes_of(node)
                    .any(|end| end.attempt == Some(attempt - 1) && end.seq < event.seq);
            report.unless(attempt > before && previous_ended, || {
                format!("{event} at {} begins before attempt {} has ended", event.seq, attempt - 1)
            });
            last.insert(node, attempt);
        } else if event.is("step.deferred") {
            // It was not its turn: the same attempt begins again.
            last.insert(node, attempt - 1);
        }
    }
}

pub(super) fn needs_come_first(record: &Record, report: &mut Report) {
    let Some(needs) = record.needs() else { return };
    let begins =
        |event: &Event| event.is_start() || event.is("step.waiting") || event.is("approval.requested");
    for (node, event) in record.step_events().filter(|(_, event)| begins(event)) {
        for need in needs.get(node).into_iter().flatten() {
            let last = record.outcomes_of(&need.node).rfind(|outcome| outcome.seq < event.seq);
            // Who has fallen back ends as the node that took over.
            let fallback = last.filter(|outcome| outcome.body["then"]["do"] == "fallback").and_then(|_| {
                record
                    .outcomes_of(&format!("{}.fallback", need.node))
                    .rfind(|outcome| outcome.seq < event.seq)
            });
            let satisfied = fallback.or(last).is_some_and(|outcome| accepts(need, outcome))
                || is_reused(record, need)
                || is_set_by_a_person(record, need, event.seq);
            report.unless(satisfied, || {
                let found = last.map_or("nothing".to_owned(), ToString::to_string);
                format!("{event} at {} needs {}, of which there was {found}", event.seq, need.node)
            });
        }
    }
}

/// The step ended in the run that this one goes on from, as it must.
fn is_reused(record: &Record, need: &Need) -> bool {
    let created = record.events().first();
    let step = created.map_or(&Value::Null, |created| &created.body["origin"]["steps"][&need.node]);
    let end = step["status"].as_str().unwrap_or_default();
    match &need.accept {
        None => end == "succeeded" || step["passed_over"] == true,
        Some(list) => list.iter().any(|it| it == end) || step["passed_over"] == true,
    }
}

fn is_set_by_a_person(record: &Record, need: &Need, before: u64) -> bool {
    let succeeded = need.accept.as_ref().is_none_or(|list| list.iter().any(|it| it == "succeeded"));
    succeeded && record.log.of("step.edited", &need.node).iter().any(|edited| edited.seq < before)
}

fn accepts(need: &Need, outcome: &Event) -> bool {
    let listed = |end: &str| need.accept.as_ref().is_some_and(|list| list.iter().any(|it| it == end));
    let passed_over = outcome.body["then"]["do"] == "continue" || outcome.body["reason"] == "command";
    let succeeded = || need.accept.is_none() || listed("succeeded");
    match (outcome.verb(), outcome.body["then"]["do"].as_str()) {
        ("succeeded", _) | ("failed" | "timed_out", Some("substitute")) => succeeded(),
        ("skipped", _) => passed_over || listed("skipped"),
        ("failed" | "timed_out", Some("skip")) => listed("skipped"),
        ("failed" | "timed_out", _) => passed_over || listed("failed"),
        _ => false,
    }
}

/// A run of a concurrency group has a place there before anything of it begins, and takes one once.
pub(super) fn nothing_begins_without_a_place(record: &Record, report: &mut Report) {
    let needs_one = record.events().first().is_some_and(|created| created.body["group"].is_object());
    let mut has_one = !needs_one;
    for event in record.events() {
        if event.is("run.place_taken") {
            report.unless(!has_one, || format!("{event} at {}, and it has one, or needs none", event.seq));
            has_one = true;
        }
        let begins = event.is_start() || event.is("step.waiting") || event.is("approval.requested");
        report
            .unless(has_one || !begins, || format!("{event} at {} without a place in the group", event.seq));
    }
}

pub(super) fn nothing_starts_after_cancel(record: &Record, report: &mut Report) {
    let Some(cancel) = record.events().iter().find(|event| event.is("run.cancel_requested")) else { return };
    for event in record.events().iter().filter(|event| event.seq > cancel.seq) {
        report.unless(!event.is("step.started"), || {
            format!("{event} at {} after the cancel at {}", event.seq, cancel.seq)
        });
    }
    let last = record.events().last().expect("there is at least the cancel");
    report.unless(!matches!(last.kind.as_str(), "run.completed" | "run.failed"), || {
        format!("a canceled run ended by {last}")
    });
}

pub(super) fn nothing_is_early(record: &Record, report: &mut Report) {
    let start_at = record.events().first().and_then(|created| time(&created.body["start_at"]));
    let mut due: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for (node, event) in record.step_events() {
        report.unless(event.is_by_a_person() || start_at.is_none_or(|start_at| event.at >= start_at), || {
            format!("{event} at {} happened at {}, before the run starts", event.seq, event.at)
        });
        match event.verb() {
            "waiting" => set(&mut due, node, time(&event.body["until"])),
            "deferred" => set(&mut due, node, time(&event.body["until"])),
            "retry_scheduled" => set(&mut due, node, time(&event.body["at"])),
            verb if verb == "started" || event.is("timer.fired") => {
                if let Some(due) = due.remove(node) {
                    report.unless(event.at >= due, || {
                        format!("{event} at {} happened at {}, due at {due}", event.seq, event.at)
                    });
                }
            }
            _ if event.is_outcome() => {
                due.remove(node);
            }
            _ => {}
        }
    }
}

fn set<'a>(due: &mut BTreeMap<&'a str, Timestamp>, node: &'a str, at: Option<Timestamp>) {
    if let Some(at) = at {
        due.insert(node, at);
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

pub(super) fn lost_steps_wait_for_a_person(record: &Record, report: &mut Report) {
    let mut lost: BTreeMap<&str, &Event> = BTreeMap::new();
    for event in record.events() {
        let by_a_person = event.is_by_a_person();
        match (event.verb(), event.node.as_deref()) {
            ("lost", Some(node)) if event.body["retry"] == false => {
                lost.insert(node, event);
            }
            _ if event.is("run.resumed") && by_a_person => lost.clear(),
            ("retry_scheduled" | "skipped", Some(node)) if by_a_person => {
                lost.remove(node);
            }
            ("started", Some(node)) => report.unless(!lost.contains_key(node), || {
                format!("{event} at {} repeats what must not be repeated unasked", event.seq)
            }),
            _ => {}
        }
    }
}

/// What the definition calls unsafe is not repeated by itself, and neither is what was there when engines kept dying.
pub(super) fn lost_steps_are_repeated_within_reason(record: &Record, report: &mut Report) {
    let mut in_flight: BTreeSet<&str> = BTreeSet::new();
    let mut deaths = 0;
    for event in record.events() {
        match event.node.as_deref() {
            None if event.is("run.engine_taken") => {
                deaths = if in_flight.is_empty() { 0 } else { deaths + 1 }
            }
            None if event.is("run.resumed") => deaths = 0,
            Some(node) if event.is_start() => {
                in_flight.insert(node);
            }
            // A step that waits is in nobody's hands.
            Some(node) if event.is("step.deferred") || event.is("child.started") => {
                in_flight.remove(node);
            }
            Some(node) if event.is_outcome() => {
                in_flight.remove(node);
                let repeats = event.verb() == "lost" && event.body["retry"] == true;
                let is_unsafe = record.node(node).is_some_and(|node| node["retry_safe"] == false);
                report.unless(!(repeats && is_unsafe), || {
                    format!("{event} at {} is repeated, and the definition calls that unsafe", event.seq)
                });
                report.unless(!(repeats && deaths >= DEATHS_MAX), || {
                    format!("{event} at {} is repeated after {deaths} deaths in a row", event.seq)
                });
                if event.verb() == "succeeded" {
                    deaths = 0;
                }
            }
            _ => {}
        }
    }
}

/// The same key while the outcome before is unknown, a new one after a definite failure.
pub(super) fn keys_tell_what_is_known(record: &Record, report: &mut Report) {
    let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut unknown: BTreeMap<&str, bool> = BTreeMap::new();
    for (node, event) in record.step_events() {
        if event.is_start() {
            let key = event.body["idempotency_key"].as_str().unwrap_or_default();
            let before = keys.entry(node).or_default();
            let repeats = unknown.get(node).copied().unwrap_or(false);
            let right = if repeats { before.last() == Some(&key) } else { !before.contains(&key) };
            report.unless(right && !key.is_empty(), || {
                format!("{event} at {} has the key {key} after {before:?}", event.seq)
            });
            before.push(key);
        } else if event.is("step.deferred") {
            let deferred = keys.get_mut(node).and_then(Vec::pop);
            // Whether it repeats what is unknown stays as it was.
            let repeats = keys.get(node).is_some_and(|keys| keys.last().copied() == deferred);
            unknown.insert(node, repeats);
        } else if event.is_outcome() {
            unknown.insert(node, event.verb() == "lost");
        }
    }
}

/// Every effect has a committed start of its key before it, and each start acts at most once.
pub(super) fn effects_were_announced(record: &Record, report: &mut Report) {
    let mut effects: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for effect in &record.effects {
        effects.entry(&effect.key).or_default().push(effect.at);
    }
    for (key, mut times) in effects {
        times.sort_unstable();
        let starts: Vec<Timestamp> = record
            .events()
            .iter()
            .filter(|event| event.is_start() && event.body["idempotency_key"] == key)
            .map(|event| event.at)
            .collect();
        for (nth, at) in times.iter().enumerate() {
            let announced = starts.get(nth).is_some_and(|start| start <= at);
            report.unless(announced, || {
                format!("effect {} of key {key} arrived at {at}, but the starts were {starts:?}", nth + 1)
            });
        }
    }
}
