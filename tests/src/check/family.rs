//! Rules about the runs that steps of a run have started.

use std::collections::{BTreeMap, BTreeSet};

use super::{Record, Report};
use crate::client::is_terminal;

/// What the log says was started is there, once, and nothing else calls this run its parent.
pub(super) fn children_are_those_of_the_log(record: &Record, report: &mut Report) {
    let mut started = BTreeSet::new();
    for event in record.events().iter().filter(|event| event.is("child.started")) {
        let child = event.body["run_id"].as_str().unwrap_or_default();
        report.unless(started.insert(child), || format!("{event} at {} starts {child} again", event.seq));
    }
    let listed: BTreeSet<_> = record.children.iter().filter_map(|child| child["id"].as_str()).collect();
    report.unless(started == listed, || format!("the log starts {started:?}, and there are {listed:?}"));
    for child in &record.children {
        report.unless(child["parent_run_id"] == record.run["id"], || {
            format!("run {} is listed and has another parent", child["id"])
        });
    }
}

/// One attempt of a step starts one child at the most.
pub(super) fn attempts_have_one_child(record: &Record, report: &mut Report) {
    let mut attempts = BTreeSet::new();
    for (node, event) in record.step_events().filter(|(_, event)| event.is("child.started")) {
        let is_first = attempts.insert((node, event.attempt));
        report.unless(is_first, || format!("{event} at {} is the second child of its attempt", event.seq));
    }
}

/// The end of a child is taken in once, as it was, and before the end of its parent.
pub(super) fn children_end_once_and_first(record: &Record, report: &mut Report) {
    let mut open: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for event in record.events() {
        let child = event.body["run_id"].as_str().unwrap_or_default();
        match event.kind.as_str() {
            "child.started" => drop(open.insert(child, event.node.as_deref())),
            "child.cancel_requested" => report.unless(open.contains_key(child), || {
                format!("{event} at {} asks {child} to stop, which is not open", event.seq)
            }),
            "child.finished" => {
                let began = open.remove(child);
                report.unless(began == Some(event.node.as_deref()), || {
                    format!("{event} at {} ends {child}, which this step has not open", event.seq)
                });
                let row = record.children.iter().find(|row| row["id"] == child);
                report.unless(row.is_none_or(|row| row["status"] == event.body["status"]), || {
                    format!("{event} at {}: {child} ended otherwise", event.seq)
                });
            }
            _ if event.is_terminal() => report.unless(open.is_empty(), || {
                format!("{event} at {} leaves children behind: {:?}", event.seq, open.keys())
            }),
            _ => {}
        }
    }
    if is_terminal(&record.run["status"]) {
        for child in record.children.iter().filter(|child| !is_terminal(&child["status"])) {
            report
                .0
                .push(format!("run {} is {} although its parent has ended", child["id"], child["status"]));
        }
    }
}
