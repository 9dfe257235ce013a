//! Which of the interesting things have happened: a campaign in which one of them hardly ever did proves nothing about it.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// What must happen in a campaign, each so often that luck is no explanation.
pub const MUST_HAPPEN: &[&str] = &[
    // Messages.
    "doorbell_lost",
    "doorbell_late",
    "doorbell_twice",
    "doorbell_for_nothing",
    "poke_lost",
    "poke_made_up_for",
    "news_lost",
    // Leases and fences.
    "run_taken_from_the_dead",
    "run_taken_from_the_silent",
    "run_handed_over_by_a_drain",
    "fence_lost",
    "pulse_refused",
    "engine_overtaken_by_the_door",
    "door_overtaken",
    // Answers that were lost.
    "commit_unknown_applied",
    "commit_unknown_not_applied",
    // Steps.
    "lost_step_retried",
    "step_interrupted",
    "quarantined",
    "step_retried_after_failure",
    "effect_repeated_with_its_key",
    "agent_came_back",
    "agent_was_given_up",
    "timer_fired",
    "signal_taken",
    "machine_moved",
    "snapshot_read",
    // Commands.
    "cancel_beat_completion",
    "completion_beat_cancel",
    "approval_beat_expiry",
    "expiry_beat_approval",
    "second_approval_refused",
    "stale_approval_refused",
    "reply_replayed",
    "other_body_refused",
    "answer_never_came",
    // Undoing.
    "undone",
    "undoing_survived_a_crash",
    "undoing_needed_a_person",
    // Children.
    "child_started",
    "child_taken_from_the_dead",
    "child_recalled",
    "child_ended_badly",
    "recall_survived_a_crash",
    "child_ended_while_its_parents_engine_was_dead",
    "parent_was_not_told",
    "child_had_its_parents_deadline",
    // Groups, circuits, times.
    "run_waited_for_a_place",
    "place_was_handed_on",
    "newer_run_took_the_place",
    "circuit_opened",
    "circuit_refused",
    "circuit_tried",
    "circuit_healed",
    "circuit_given_back",
    "circuit_turn_had_passed",
    "circuit_of_a_host_opened",
    "circuit_of_a_host_refused",
    "circuit_of_a_host_given_back",
    "start_was_delayed",
    "schedule_started_a_run",
    "schedule_skipped_an_overlap",
    "schedule_was_too_late",
    "time_of_a_schedule_was_taken",
    // Going on from a run.
    "state_edited",
    "run_begun_again",
    "run_moved",
    "step_was_reused",
    "nothing_was_reused",
    "edit_was_the_last_word",
    // Definitions.
    "definition_was_published_anew",
    "run_of_an_older_definition",
    // Limits and slices.
    "turn_came_at_once",
    "turn_was_put_off",
    "turn_was_refused",
    "start_was_refused",
    "start_was_over_quota",
    "place_came_free",
    "schedule_had_no_room",
    "child_began_beyond_the_quota",
    "list_was_dealt_out",
    // Tenants.
    "stranger_was_refused",
    "one_key_of_two_tenants",
    "one_group_of_two_tenants",
    "one_circuit_of_two_tenants",
    "one_schedule_of_two_tenants",
    // Streams and messages to the outside.
    "stream_came_back",
    "stream_filled_a_gap",
    "told_twice",
    "delivery_failed",
    // Processes.
    "worker_crashed",
    "worker_froze",
    "worker_cut_off",
    "worker_drained",
    "api_crashed",
    "clock_jumped",
];

/// How often what must happen must happen.
pub const HITS_MIN: u64 = 20;
/// Fewer schedules are no campaign, and need not reach everything.
pub const CAMPAIGN_MIN: u64 = 5_000;

/// Counts what happened.
#[derive(Debug, Default)]
pub struct Reach(Mutex<BTreeMap<&'static str, u64>>);

impl Reach {
    pub(crate) fn hit(&self, what: &'static str) {
        debug_assert!(MUST_HAPPEN.contains(&what) || OPTIONAL.contains(&what), "{what} is not listed");
        *self.0.lock().expect("one thread").entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().expect("one thread").clone()
    }

    /// Adds what happened elsewhere.
    pub fn add(&self, other: &Reach) {
        let mut counts = self.0.lock().expect("one thread");
        for (what, times) in other.counts() {
            *counts.entry(what).or_default() += times;
        }
    }

    /// What did not happen often enough, with how often it did.
    pub fn unreached(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts();
        let times = |what: &&'static str| counts.get(what).copied().unwrap_or(0);
        MUST_HAPPEN.iter().map(|what| (*what, times(what))).filter(|(_, times)| *times < HITS_MIN).collect()
    }
}

/// Worth counting, though nothing depends on it.
const OPTIONAL: &[&str] = &["poke_late", "poke_twice", "news_late", "news_twice"];
