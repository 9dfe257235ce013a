//! Rules about errors that were routed, and about what is undone.

use serde_json::Value;

use super::{Record, Report};
use crate::Event;

/// `error.routed` stands right behind the failure that it is about, and says what that failure says.
pub(super) fn rules_decide_about_failures(record: &Record, report: &mut Report) {
    for (at, event) in record.events().iter().enumerate().filter(|(_, event)| event.is("error.routed")) {
        let failure = at.checked_sub(1).map(|before| &record.events()[before]).filter(|before| {
            matches!(before.verb(), "failed" | "timed_out")
                && (&before.node, before.attempt) == (&event.node, event.attempt)
        });
        let does = failure.and_then(|failure| failure.body["then"]["do"].as_str()).unwrap_or("nothing");
        let says = event.body["action"].as_str().unwrap_or_default();
        // These are done in a way that has a name of its own.
        let is_done_so = matches!((says, does), ("fallback", "substitute") | ("wait_for_agent", "retry"));
        report.unless(does == says || is_done_so, || {
            format!("{event} at {} says {says}, but what failed before it does {does}", event.seq)
        });
        let rule = event.body["rule"].as_str().unwrap_or_default();
        let is_there = record.definition.as_ref().is_none_or(|it| it.pointer(rule).is_some());
        report.unless(is_there, || {
            format!("{event} at {} names the rule {rule}, which is not there", event.seq)
        });
    }
}

fn plan(record: &Record) -> Option<(&Event, Vec<&str>)> {
    let planned = record.events().iter().find(|event| event.is("compensation.planned"))?;
    let steps = planned.body["steps"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Some((planned, steps.collect()))
}

/// Once the undoing is planned nothing else begins, and it begins in the planned order.
pub(super) fn nothing_begins_but_what_was_planned(record: &Record, report: &mut Report) {
    let plan = plan(record);
    let mut begun: Vec<&str> = Vec::new();
    for (node, event) in record.step_events().filter(|(_, event)| event.is_start()) {
        let undoes = event.is("compensation.started");
        let place = plan.as_ref().filter(|(planned, _)| planned.seq < event.seq);
        report.unless(undoes == place.is_some(), || {
            format!(
                "{event} at {}, although undoing was {}planned before",
                event.seq,
                if undoes { "not " } else { "" }
            )
        });
        if undoes && !begun.contains(&node) {
            begun.push(node);
        }
    }
    let Some((planned, steps)) = plan else { return };
    report.unless(record.log.count("compensation.planned") == 1, || "undoing was planned twice".into());
    let in_turn: Vec<&str> = steps.iter().filter(|step| begun.contains(step)).copied().collect();
    let any_order = planned.body["order"] == "parallel" && begun.iter().all(|step| steps.contains(step));
    report.unless(any_order || begun == in_turn, || format!("{begun:?} were begun, planned were {steps:?}"));
}

/// What took effect is undone, and so is what may have; what did nothing is not.
pub(super) fn what_acted_is_planned(record: &Record, report: &mut Report) {
    let Some(definition) = &record.definition else { return };
    let end = record.events().last().map_or("", |event| event.kind.as_str());
    let (planned, steps) = plan(record).map_or((None, Vec::new()), |(planned, steps)| (Some(planned), steps));
    let until = planned.map_or(u64::MAX, |planned| planned.seq);
    let mut acted: Vec<(i64, String)> = Vec::new();
    for node in record
        .by_node
        .keys()
        .filter(|id| record.node(id).is_some_and(|node| node.get("compensate").is_some()))
    {
        let begun =
            |end: &Event| record.log.of("step.started", node).iter().any(|it| it.attempt == end.attempt);
        let mut ends = record.outcomes_of(node).filter(|end| end.seq < until && begun(end));
        let deed = ends.rfind(|end| end.verb() != "failed");
        let step = match node.split_once('[') {
            Some((node, item)) => format!("{node}.compensate[{item}"),
            None => format!("{node}.compensate"),
        };
        match deed {
            Some(deed) => acted.push((deed.seq.cast_signed(), step)),
            // Some failures come after the deed; which ones, the definition cannot tell.
            None => report
                .unless(!steps.contains(&step.as_str()) || record.log.has("step.started", node), || {
                    format!("{step} is planned, but {node} did nothing")
                }),
        }
    }
    // What the run before did, and this one answers for, in the order in which it was done.
    let created = record.events().first();
    let taken_over = created.and_then(|created| created.body["origin"]["acted"].as_array());
    let taken_over = taken_over.into_iter().flatten().filter_map(Value::as_str).rev();
    for (node, before) in taken_over.zip(1..) {
        let step = format!("{node}.compensate");
        if !acted.iter().any(|(_, acted)| *acted == step) {
            acted.push((-before, step));
        }
    }
    let when = definition["compensation"]["when"].as_array();
    let wants = |end: &str| when.is_none_or(|list| list.iter().any(|it| it == end));
    let must = planned.is_some()
        || (end == "run.failed" && wants("failed"))
        || (end == "run.canceled" && wants("canceled") && record.run["moved_to"].is_null());
    for (_, step) in acted.iter().filter(|_| must) {
        report.unless(steps.contains(&step.as_str()), || {
            format!("{step} is not planned, although there is something to undo")
        });
    }
    if planned.is_some_and(|planned| planned.body["order"] == "reverse") {
        acted.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        let wanted: Vec<&str> = acted.iter().map(|(_, step)| step.as_str()).collect();
        let found: Vec<&str> = steps.iter().filter(|step| wanted.contains(step)).copied().collect();
        report.unless(found == wanted, || {
            format!("planned are {found:?}; what was done last comes first in {wanted:?}")
        });
    }
}

/// Each is effective at most once, and a run does not end while one is open: it succeeded, or a person passed it.
pub(super) fn each_is_undone_once(record: &Record, report: &mut Report) {
    let Some((_, steps)) = plan(record) else { return };
    let Some(end) = record.events().last().filter(|event| event.is_terminal()) else { return };
    let mut all = true;
    for step in steps {
        let done = record.log.of("compensation.succeeded", step).len();
        let passed =
            record.log.of("compensation.skipped", step).iter().filter(|it| it.is_by_a_person()).count();
        all &= done == 1;
        report.unless(done + passed == 1, || {
            format!("{step} was undone {done} times and passed {passed} times")
        });
    }
    let outcome = if all { "succeeded" } else { "incomplete" };
    report.unless(end.body["compensation"] == outcome, || {
        format!("{end} says {}, but the undoing was {outcome}", end.body["compensation"])
    });
}
