//! What came of the times of schedules, seen from where the database stands.

use std::collections::BTreeSet;

use windlass_model::schedule::ScheduleSpec;
use windlass_model::{RunId, TenantId, Timestamp};
use windlass_store::{Firing, ScheduleRow, WriteError};

use super::World;

/// Times that have come: whose schedule, which revision of it, and when.
pub(super) type Fired = BTreeSet<(TenantId, String, u32, Timestamp)>;

impl World {
    /// I32: a time comes once, and starts a run or says why not.
    pub(super) fn fired(
        &self,
        firing: &Firing,
        before: Option<&ScheduleRow>,
        run: Option<RunId>,
        done: &Result<(), WriteError>,
    ) {
        match done {
            Ok(()) => {}
            Err(WriteError::Moved) => return self.reach.hit("time_of_a_schedule_was_taken"),
            Err(_) => return,
        }
        let Firing { tenant, name, revision, at, problem, .. } = firing;
        let time = (*tenant, name.clone(), *revision, *at);
        let is_first = self.ledger.lock().expect("one thread").fired.insert(time);
        if !is_first {
            self.complain(format!("I32: the time {at} of {name} came twice"));
        }
        let Some(row) = before else { return };
        let spec: ScheduleSpec = serde_json::from_str(&row.spec).expect("the door has checked it");
        let last = row.last_run_id.and_then(|run| self.row(run)).filter(|row| !row.status.is_terminal());
        match (run, problem) {
            (Some(run), _) => {
                self.reach.hit("schedule_started_a_run");
                if let Some(last) = last.filter(|_| spec.overlap.skips()) {
                    self.complain(format!("I32: {name} started {run} while {} was under way", last.id));
                }
            }
            (None, None) => {
                self.complain(format!("I32: {at} of {name} passed without a run, and nobody says why"));
            }
            (None, Some(problem)) if problem.contains("under way") => {
                self.reach.hit("schedule_skipped_an_overlap");
            }
            (None, Some(problem)) if problem.contains("too late") => {
                self.reach.hit("schedule_was_too_late");
                let late = at.until(self.now()).as_millis();
                if late <= u128::from(spec.catch_up_ms) {
                    self.complain(format!("I32: {at} of {name} was too late by {late} ms"));
                }
            }
            (None, Some(problem)) if problem.contains("runs are open") => {
                self.reach.hit("schedule_had_no_room");
                let ledger = self.ledger.lock().expect("one thread");
                let complaint = ledger.open_runs.passed_over(*tenant, self.open_runs_max);
                drop(ledger);
                self.complain_of(complaint);
            }
            (None, Some(problem)) => self.note(format_args!("{name} at {at}: {problem}")),
        }
    }
}
