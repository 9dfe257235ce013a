//! Hunts bugs that were put in on purpose: a checker that does not find them would not find the next real one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use windlass_model::planted::switch_on;

use crate::Simulator;

/// Every bug that can be switched on, as the places in the product name it.
pub const BUGS: &[&str] = &[
    // Rules.
    "timer_fires_early",
    "lost_step_gets_another_key",
    "unsafe_step_repeated",
    "never_quarantined",
    "retries_without_end",
    "no_pause_between_attempts",
    "patience_without_end",
    "patience_is_not_renewed",
    "absent_are_asked_for_too_often",
    "one_need_is_enough",
    "one_approval_is_enough",
    "approval_of_another_attempt",
    "ended_run_accepts_a_cancel",
    "first_is_not_undone",
    "undone_in_the_wrong_order",
    "unknown_is_not_undone",
    // The engine.
    "unknown_commit_taken_for_done",
    "deed_before_commit",
    "no_sweep",
    "failed_delivery_forgotten",
    // The database.
    "fence_ignored",
    "version_ignored",
    "epoch_not_raised",
    "held_run_is_taken",
    "ended_run_is_taken",
    "dead_keep_their_runs",
    "timers_are_not_swept",
    "key_used_twice",
    "door_leaves_the_row",
    "decided_gates_stay_in_the_inbox",
    "snapshot_skips_an_event",
    "outbox_forgotten",
    "freed_places_are_forgotten",
    "a_place_too_many",
    // Circuits and times.
    "open_circuit_lets_pass",
    "all_try_the_circuit",
    "circuit_never_opens",
    "called_off_keeps_its_turn",
    "late_failure_opens_it_again",
    "circuits_shared_by_kinds",
    "begins_early",
    "a_time_comes_twice",
    "time_passes_before_its_run",
    "overlap_not_looked_at",
    // Limits and slices.
    "turns_are_not_counted",
    "limits_shared_by_tenants",
    "call_does_not_wait_for_its_turn",
    "run_does_not_wait_for_its_turn",
    "turn_is_asked_for_again",
    "own_starts_are_not_counted",
    "ended_runs_keep_their_places",
    "refused_by_an_old_count",
    "places_are_not_given_back",
    "slice_counts_from_zero",
    "item_between_slices_is_lost",
    "slice_keeps_its_failures",
    // Going on from a run.
    "rerun_keeps_what_is_asked_for",
    "rerun_keeps_what_needs_it",
    "move_in_two_writes",
    "moved_run_leaves_its_children",
    "moved_run_leaves_its_gates",
    "moved_run_forgets_its_deeds",
    "edit_is_forgotten",
    // Definitions.
    "stale_definition_is_pinned",
    "newest_definition_is_run",
    // Children.
    "child_written_without_its_event",
    "childs_end_stays_news",
    "ends_of_children_are_not_swept",
    "cancel_not_passed_on",
    "recall_dies_with_its_engine",
    "deadline_not_passed_on",
    "parent_ends_before_its_children",
    // Tenants.
    "keys_shared_by_tenants",
    "groups_shared_by_tenants",
    "circuits_shared_by_tenants",
    "runs_of_another_tenant",
    "inbox_shared_by_tenants",
    // The door.
    "reply_not_remembered",
    "stream_repeats",
    "stream_skips_gaps",
    "stream_trusts_the_wire",
];

/// A bug that was not found in so many schedules counts as not found. The rarest takes 2,606.
pub const SCHEDULES_MAX: u64 = 5_000;

/// How far to look for each bug.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    pub seed: u64,
    pub schedules_max: u64,
    pub jobs: usize,
}

/// What came of the hunt for one bug.
#[derive(Clone, Debug)]
pub struct Hunted {
    pub bug: &'static str,
    pub caught: Option<Caught>,
}

#[derive(Clone, Debug)]
pub struct Caught {
    pub seed: u64,
    /// How many schedules it took.
    pub schedules: u64,
    /// The first complaint.
    pub by: String,
}

impl Hunt {
    /// Hunts one bug, or all of them.
    ///
    /// # Errors
    /// When there is no bug of that name.
    pub fn run(&self, only: Option<&str>) -> Result<Vec<Hunted>> {
        let bugs: Vec<&'static str> =
            BUGS.iter().copied().filter(|bug| only.is_none_or(|only| only == *bug)).collect();
        if bugs.is_empty() {
            bail!("there is no bug `{}`", only.unwrap_or_default());
        }
        let next = AtomicUsize::new(0);
        let hunted = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    let simulator = Simulator::default();
                    while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let caught = self.catch(&simulator, bug);
                        hunted.lock().expect("no thread panicked").push(Hunted { bug, caught });
                    }
                });
            }
        });
        let mut hunted = hunted.into_inner()?;
        hunted.sort_by_key(|hunted| bugs.iter().position(|bug| *bug == hunted.bug));
        Ok(hunted)
    }

    fn catch(&self, simulator: &Simulator, bug: &'static str) -> Option<Caught> {
        for nth in 0..self.schedules_max {
            let seed = self.seed + nth;
            let schedule = simulator.schedule(seed);
            switch_on(Some(bug));
            let outcome = simulator.play(&schedule);
            switch_on(None);
            if let Some(by) = outcome.violations.into_iter().next() {
                return Some(Caught { seed, schedules: nth + 1, by });
            }
        }
        None
    }
}
