//! Rules about the log as a whole.

use super::{Record, Report};

pub(super) fn log_is_gapless(record: &Record, report: &mut Report) {
    for (index, event) in record.events().iter().enumerate() {
        let expected = index as u64 + 1;
        report.unless(event.seq == expected, || format!("event {} stands where {expected} must", event.seq));
    }
    let first = record.events().first();
    report.unless(first.is_some_and(|event| event.is("run.created")), || {
        format!("the log begins with {first:?}")
    });
    let created = record.log.count("run.created");
    report.unless(created == 1, || format!("the run was created {created} times"));
}

pub(super) fn terminal_is_final(record: &Record, report: &mut Report) {
    let ends: Vec<u64> = record.events().iter().filter(|it| it.is_terminal()).map(|it| it.seq).collect();
    report.unless(ends.len() <= 1, || format!("the run ended {} times: {ends:?}", ends.len()));
    if let (Some(end), Some(last)) = (ends.first(), record.events().last()) {
        report.unless(*end == last.seq, || format!("{last} at {} comes after the end at {end}", last.seq));
        in_flight_at_end(record, report);
    }
}

/// Nothing may be in flight once the run has ended.
fn in_flight_at_end(record: &Record, report: &mut Report) {
    for (node, start) in record.step_events().filter(|(_, event)| event.is_start()) {
        // One that was not made, because it was not its turn, is begun again, or never.
        let deferred = record.log.of("step.deferred", node);
        let ended = record.outcomes_of(node).any(|event| event.attempt == start.attempt)
            || deferred.iter().any(|event| event.attempt == start.attempt && event.seq > start.seq);
        report.unless(ended, || format!("{start} at {} has no outcome although the run ended", start.seq));
    }
}

pub(super) fn row_agrees_with_log(record: &Record, report: &mut Report) {
    let status = record.run["status"].as_str().unwrap_or_default();
    let Some(last) = record.events().last() else { return };
    let expected = match last.kind.as_str() {
        "run.completed" => Some("completed"),
        "run.failed" => Some("failed"),
        "run.canceled" => Some("canceled"),
        "run.cancel_requested" => Some("canceling"),
        "compensation.planned" => Some("compensating"),
        _ => None,
    };
    match expected {
        Some(expected) => report.unless(status == expected, || format!("the row says {status} after {last}")),
        None => report.unless(!["completed", "failed", "canceled"].contains(&status), || {
            format!("the row says {status}, but the log goes on to {last}")
        }),
    }
    if last.is_terminal() {
        let ended_at = record.run["ended_at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        report.unless(ended_at == Some(last.at), || {
            format!("the row ended at {}, the log at {}", record.run["ended_at"], last.at)
        });
    }
    let paused = record.events().iter().rev().find_map(|event| match event.kind.as_str() {
        "run.paused" | "run.quarantined" => Some(true),
        "run.resumed" | "run.cancel_requested" | "run.canceled" | "run.failed" | "compensation.planned" => {
            Some(false)
        }
        // It fails once its children have stopped.
        "child.cancel_requested" if event.body["because"] == "parent_deadline" => Some(false),
        // Its deadline has passed meanwhile, or a rule lets it fail: it is about to end.
        _ if matches!(event.body["then"]["do"].as_str(), Some("fail" | "compensate")) => Some(false),
        _ => None,
    });
    report.unless((status == "paused") == paused.unwrap_or(false), || {
        format!(
            "the row says {status}, the log says {}",
            if paused == Some(true) { "paused" } else { "not paused" }
        )
    });
}

pub(super) fn epochs_never_go_back(record: &Record, report: &mut Report) {
    let mut current = 0;
    for event in record.events() {
        let Some(epoch) = event.epoch else { continue };
        if event.is("run.engine_taken") {
            report.unless(epoch > current, || format!("epoch {epoch} at {} follows {current}", event.seq));
            current = epoch;
        } else {
            report.unless(epoch == current, || {
                format!("{event} at {} was written in epoch {epoch}, but {current} holds the run", event.seq)
            });
        }
    }
}

pub(super) fn everything_has_an_author(record: &Record, report: &mut Report) {
    for event in record.events() {
        let actor = &event.body["actor"];
        let named = actor["id"].as_str().is_some_and(|id| !id.is_empty());
        let known = actor["kind"] == "user" || actor["kind"] == "system";
        report.unless(named && known, || format!("{event} at {} was caused by {actor}", event.seq));
    }
}
