//! Rules about waiting for an agent that is away.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::Value;

use super::{Record, Report};
use crate::Event;

/// An agent that is away is looked for after an eighth of the time it has been, within these bounds.
const LOOK_AGAIN: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_mins(5));
/// Times are written in whole microseconds.
const ROUNDED: SignedDuration = SignedDuration::from_millis(1);

/// What has happened to a step since a person last asked for another try.
#[derive(Default)]
struct Tried<'a> {
    failures: Vec<&'a Event>,
    is_paused: bool,
    /// People decide about its failure.
    is_asked_about: bool,
}

/// Who waits for an agent looks for it ever more rarely, until the rule's `timeout` has passed, and no less long.
pub(super) fn absent_agents_are_waited_for(record: &Record, report: &mut Report) {
    let mut steps: BTreeMap<&str, Tried> = BTreeMap::new();
    for (at, event) in record.events().iter().enumerate() {
        let Some(node) = event.node.as_deref() else {
            if event.is("run.resumed") {
                steps.retain(|_, step| !step.is_paused);
            }
            continue;
        };
        let step = steps.entry(node).or_default();
        match event.verb() {
            "failed" | "timed_out" => {
                step.failures.push(event);
                holds_out(record, at, &step.failures, report);
            }
            "paused" => step.is_paused = true,
            "lost" if event.body["retry"] == false => step.is_paused = true,
            "retry_scheduled" if step.is_paused || step.is_asked_about => *step = Tried::default(),
            "succeeded" | "skipped" | "edited" => *step = Tried::default(),
            _ if event.is("approval.requested") => step.is_asked_about = event.body["rule"].is_string(),
            _ => {}
        }
    }
}

/// The last of these failures: whether the node's own rules about absence were obeyed.
fn holds_out(record: &Record, at: usize, failures: &[&Event], report: &mut Report) {
    let failed = &record.events()[at];
    let node = failed.node.as_deref().unwrap_or_default();
    let rules = record.node(node).and_then(|node| node["on_error"].as_array());
    let routed = record.events().get(at + 1).filter(|next| next.is("error.routed") && next.is_about(node));
    // The node's own retries come first; and what stops looks for nobody.
    if routed.is_none() && matches!(failed.body["then"]["do"].as_str(), Some("retry" | "fail")) {
        return;
    }
    let pointer = routed.and_then(|routed| routed.body["rule"].as_str()).unwrap_or_default();
    for (place, rule) in rules.into_iter().flatten().enumerate().filter(|(_, rule)| matches(rule, failed)) {
        let decides = pointer.ends_with(&format!("/on_error/{place}"));
        let patience = rule["timeout"].as_str().and_then(|span| span.parse::<SignedDuration>().ok());
        if let Some(patience) = patience.filter(|_| rule["action"] == "wait_for_agent") {
            let of_late = failures.iter().rev().take_while(|failure| matches(rule, failure));
            let since = of_late.last().map_or(failed.at, |first| first.at);
            let away = failed.at.duration_since(since);
            report.unless(decides == (away < patience), || {
                let does = if decides { "waits" } else { "gives up" };
                format!("{failed} at {} {does} after {away:?} of {patience:?}", failed.seq)
            });
            if decides {
                pauses_rightly(record, at, away, patience, report);
            }
        }
        // Those that are used up leave it to the next one.
        if decides || !matches!(rule["action"].as_str(), Some("wait_for_agent" | "retry")) {
            return;
        }
    }
}

fn pauses_rightly(
    record: &Record,
    at: usize,
    away: SignedDuration,
    patience: SignedDuration,
    report: &mut Report,
) {
    let failed = &record.events()[at];
    let again = record.events().get(at + 2).filter(|again| again.verb() == "retry_scheduled");
    let at = again.and_then(|again| again.body["at"].as_str()?.parse::<jiff::Timestamp>().ok());
    let pause = at.map(|at| at.duration_since(failed.at));
    let due = (away / 8).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1).min(patience - away);
    report.unless(pause.is_some_and(|pause| (pause - due).abs() <= ROUNDED), || {
        format!("{failed} at {} is tried again after {pause:?}, away {away:?}, due {due:?}", failed.seq)
    });
}

/// Whether a rule is about this failure.
fn matches(rule: &Value, failed: &Event) -> bool {
    let kind = failed.body["error"]["type"].as_str().unwrap_or_default();
    let mut patterns = rule["match"].as_array().into_iter().flatten().filter_map(Value::as_str);
    patterns.any(|pattern| match (pattern.strip_suffix('*'), pattern.strip_suffix("xx")) {
        (Some(prefix), _) => kind.starts_with(prefix),
        (_, Some(hundred)) => kind.len() == pattern.len() && kind.starts_with(hundred),
        _ => kind == pattern,
    })
}
