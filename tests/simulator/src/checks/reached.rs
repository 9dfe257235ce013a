//! What a log shows to have happened.

use std::collections::BTreeSet;

use scenarios::Log;

use crate::reach::Reach;

pub(super) fn count(reach: &Reach, log: &Log) {
    let mut lost: BTreeSet<&str> = BTreeSet::new();
    let mut retried: BTreeSet<&str> = BTreeSet::new();
    let mut away: BTreeSet<&str> = BTreeSet::new();
    let mut canceled = false;
    let mut undoing = false;
    let mut recalling = false;
    let mut awaits = false;
    let mut interrupted_undoing = false;
    for event in &log.0 {
        let node = event.node.as_deref().unwrap_or_default();
        match event.kind.as_str() {
            "step.lost" | "compensation.lost" if event.body["retry"] == true => {
                lost.insert(node);
            }
            "step.retry_scheduled" => {
                retried.insert(node);
            }
            "error.routed" if event.body["action"] == "wait_for_agent" => {
                away.insert(node);
            }
            "error.routed" | "step.paused" if away.remove(node) => reach.hit("agent_was_given_up"),
            "step.succeeded" if away.remove(node) => reach.hit("agent_came_back"),
            "step.started" if lost.remove(node) => reach.hit("lost_step_retried"),
            "step.started" if retried.remove(node) => reach.hit("step_retried_after_failure"),
            "step.succeeded" if canceled && !undoing => reach.hit("cancel_beat_completion"),
            "run.paused" if event.body["reason"] == "engine_interrupted" => reach.hit("step_interrupted"),
            "run.paused" if event.body["reason"] == "compensation_failed" => {
                reach.hit("undoing_needed_a_person")
            }
            "run.quarantined" => reach.hit("quarantined"),
            "run.cancel_requested" => {
                canceled = true;
                if event.body["reason"].as_str().is_some_and(|reason| reason.contains("newer run")) {
                    reach.hit("newer_run_took_the_place");
                }
            }
            "timer.fired" => reach.hit("timer_fired"),
            "signal.received" => reach.hit("signal_taken"),
            "machine.transitioned" => reach.hit("machine_moved"),
            "compensation.planned" => undoing = true,
            "run.created" if event.body["start_at"].is_string() => reach.hit("start_was_delayed"),
            "run.place_awaited" => {
                reach.hit("run_waited_for_a_place");
                awaits = true;
            }
            "run.place_taken" if awaits => reach.hit("place_was_handed_on"),
            "child.started" => reach.hit("child_started"),
            "child.cancel_requested" => {
                reach.hit("child_recalled");
                recalling = true;
            }
            "run.engine_taken" if recalling => reach.hit("recall_survived_a_crash"),
            "child.finished" => {
                recalling = false;
                if event.body["status"] != "completed" {
                    reach.hit("child_ended_badly");
                }
            }
            "run.engine_taken" if undoing => interrupted_undoing = true,
            "compensation.succeeded" => {
                reach.hit("undone");
                if std::mem::take(&mut interrupted_undoing) {
                    reach.hit("undoing_survived_a_crash");
                }
            }
            _ => {}
        }
    }
}
