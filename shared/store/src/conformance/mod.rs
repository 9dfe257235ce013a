//! One suite that defines the port; every store must pass all of it.
//!
//! A store's crate calls [`conformance_tests!`](crate::conformance_tests) with a future that makes a fresh
//! [`Subject`]. What two stores do differently is a case that is missing here.

pub mod approvals;
pub mod blobs;
pub mod callees;
pub mod children;
pub mod circuits;
pub mod claims;
pub mod commands;
pub mod due;
pub mod filters;
pub mod groups;
pub mod idempotency;
pub mod integrity;
pub mod outbox;
pub mod quota;
pub mod rate_limits;
pub mod runs;
pub mod schedules;
pub mod sessions;
mod subject;
pub mod tenants;
pub mod together;
pub mod workflows;

pub use subject::{MovableClock, Subject};

/// Makes a test of every case, by its name.
#[macro_export]
macro_rules! conformance_tests {
    ($make:expr) => {
        $crate::conformance_tests! { @cases $make;
            runs {
                a_run_is_read_back_as_it_was_written
                a_run_needs_a_definition
                the_id_of_a_run_is_used_once
                the_first_event_of_a_run_has_seq_one
                a_write_appends_events_and_brings_the_row_up_to_date
                events_come_back_as_they_were_written
                events_are_read_in_pages
                what_does_not_exist_is_none
                a_snapshot_replaces_the_older_one_and_the_tail_follows_it
                the_end_of_a_run_lets_it_go
                a_long_run_is_read_from_its_snapshot
            }
            commands {
                a_write_on_an_older_version_is_moved
                a_write_of_another_session_or_epoch_is_fenced
                nothing_is_written_to_a_run_that_has_ended
                events_that_do_not_follow_the_log_are_refused
                an_attempt_has_one_outcome
                a_run_ends_once
                a_release_alone_counts_as_a_write
                the_door_cannot_let_a_held_run_go
                a_command_on_a_held_run_is_seen_by_its_holder
                a_command_on_a_parked_run_makes_it_claimable
                a_refused_write_leaves_nothing_behind
            }
            claims {
                a_claim_says_who_took_the_run
                a_claim_hands_over_the_history
                of_many_claims_at_once_one_succeeds
                what_waits_for_people_is_not_claimed
                what_waits_for_a_time_is_claimed_when_it_has_come
                a_compensating_run_is_claimed_when_its_time_has_come
                a_paused_or_canceling_run_stays_what_it_is
                a_run_that_has_ended_is_never_claimed
                a_run_of_a_living_session_is_not_claimed
                a_run_of_a_dead_session_is_claimed
                a_silent_run_is_claimed_although_its_session_lives
                a_touched_run_is_not_silent
                who_lost_the_lease_can_neither_touch_nor_write
            }
            due {
                what_waits_for_an_engine_is_due
                what_is_due_soon_is_named_with_its_time
                runs_of_dead_sessions_and_silent_ones_are_due
                due_runs_come_by_priority_then_age
                tenants_take_turns
                no_more_than_the_limit_is_due_and_the_most_urgent_first
                runs_are_counted_by_status_and_the_oldest_claimable_is_timed
            }
            children {
                a_child_is_there_with_the_write_that_starts_it
                a_write_that_does_not_happen_starts_no_child
                the_end_of_a_child_moves_its_parent_until_it_is_taken_in
                a_paused_parent_is_moved_as_well_and_an_ended_one_is_not
                the_holder_of_a_parent_hears_of_the_end_of_a_child
                children_of_many_parents_at_once_are_all_there
            }
            together {
                ten_thousand_writes_at_once_are_all_answered
                runs_that_move_side_by_side_lose_nothing
                a_lost_fence_harms_no_other_run
                writes_of_two_engines_never_mix
                of_many_commands_at_once_one_is_first
                a_dropped_write_happens_as_a_whole_or_not_at_all
                creates_at_once_are_all_there
            }
            sessions {
                a_renewed_session_tells_the_time
                the_clock_moves
                dead_sessions_without_runs_are_forgotten
            }
            idempotency {
                a_reply_is_kept_with_the_deed
                a_key_is_used_once
                of_many_creates_with_one_key_one_succeeds
                a_key_belongs_to_tenant_principal_and_route
                a_taken_key_says_more_than_a_moved_row
                a_workflow_remembers_its_reply
                old_replies_are_forgotten_oldest_first
            }
            workflows {
                a_workflow_is_published_and_read_back
                a_run_is_written_only_if_its_pin_holds
                the_same_content_makes_no_new_version
                a_change_makes_a_new_version_and_a_new_revision
                tags_alone_make_a_new_revision
                a_precondition_that_does_not_hold_writes_nothing
                of_many_first_publications_one_succeeds
                versions_are_listed_newest_first
                a_deleted_workflow_is_hidden_and_its_runs_keep_their_definition
                a_deleted_workflow_can_be_published_again
                a_deletion_respects_its_revision
                an_inline_definition_is_stored_once
                workflows_are_listed_by_name
                workflows_are_found_by_tag_and_text
            }
            callees {
                a_callee_is_registered_and_read_back
                a_callee_that_changes_has_a_new_revision
                a_callee_is_changed_only_by_who_knows_it
                of_many_first_registrations_one_succeeds
                a_deleted_callee_is_gone_and_its_name_counts_on
                callees_are_listed_by_name_in_pages
                a_registration_remembers_its_reply
                callees_belong_to_their_tenant
            }
            groups {
                as_many_runs_get_in_as_there_are_places
                the_most_urgent_gets_in_first_and_then_the_oldest
                a_run_that_gets_in_says_so_and_wants_an_engine
                a_waiting_run_that_gets_in_is_due_or_its_holder_hears_of_it
                a_paused_run_gets_in_and_stays_paused
                the_end_of_a_run_leaves_its_group_to_be_found_until_somebody_looks
                of_many_looks_at_once_each_place_is_given_once
                a_newcomer_asks_once_and_waits_from_then_on
                a_run_that_has_ended_gets_no_place
                a_run_that_is_being_stopped_gets_no_place
                a_full_group_turns_away_who_will_not_wait
                of_many_who_will_not_wait_one_is_created
                who_cancels_others_is_told_of_all_that_are_older
                groups_belong_to_their_tenant
            }
            schedules {
                a_schedule_is_written_read_changed_and_deleted
                a_schedule_that_is_put_as_it_is_stays_as_it_is
                a_schedule_is_changed_only_by_who_knows_it
                a_time_that_has_come_is_not_waited_for_again
                a_schedule_remembers_its_reply
                schedules_are_due_when_their_time_has_come
                a_time_comes_with_its_run_or_not_at_all
                of_many_who_notice_a_time_one_starts_its_run
                a_time_that_comes_without_a_run_says_why
                a_changed_or_deleted_schedule_starts_nothing_of_before
                schedules_belong_to_their_tenant_and_come_in_pages
            }
            circuits {
                what_never_failed_passes_and_leaves_nothing
                failures_of_all_workers_open_one_circuit
                of_many_who_ask_to_try_one_may
                a_try_closes_or_opens_it
                a_try_that_fails_after_its_turn_leaves_the_next_one_alone
                a_try_that_is_called_off_lets_the_next_one_try
                a_circuit_that_is_closed_and_long_quiet_is_forgotten
                a_host_and_a_tool_of_one_name_have_a_circuit_each
                circuits_are_listed_by_kind_and_name_and_belong_to_their_tenant
            }
            quota {
                open_runs_are_counted_by_tenant_and_no_further_than_asked
                of_many_who_start_at_once_as_many_do_as_may
                a_run_that_ends_makes_room_and_one_that_is_not_written_takes_none
                each_tenant_has_a_quota_of_its_own
            }
            rate_limits {
                turns_come_in_the_order_in_which_they_are_asked_for
                turns_come_again_as_time_passes
                who_will_not_wait_is_told_when_and_takes_nothing
                of_many_who_ask_at_once_each_has_a_turn_of_its_own
                limits_are_listed_by_kind_and_name_and_belong_to_their_tenant
                a_limit_that_was_reset_has_all_its_turns
                a_limit_that_nobody_has_asked_for_long_is_forgotten
            }
            approvals {
                a_gate_opens_and_closes
                gates_are_listed_oldest_request_first
                a_gate_that_is_asked_anew_withdraws_the_older_request
                the_end_of_a_run_withdraws_what_is_open
                a_decision_closes_its_own_attempt_only
                of_decisions_at_once_the_one_that_was_written_closes_the_gate
                what_was_decided_as_the_run_ended_is_not_withdrawn
                gates_are_found_by_run_and_state
            }
            outbox {
                a_message_leaves_with_the_write_that_made_it_true
                delivered_messages_are_gone
                failed_messages_come_back_later
                messages_that_are_given_up_stay_visible_as_damage
                settling_what_is_gone_is_no_error
            }
            blobs {
                content_is_kept_by_its_digest
                the_same_content_is_kept_once
                large_and_empty_content_is_kept_as_it_is
            }
            integrity {
                a_store_that_was_used_as_it_should_has_no_damage
                runs_are_scanned_by_id
                references_to_nothing_and_blobs_of_nobody_are_damage
                what_is_found_is_mended_once_and_on_record
                a_run_is_written_anew_if_it_is_as_it_was_read
            }
            filters {
                runs_are_listed_newest_first_in_pages
                runs_are_found_by_status
                runs_are_found_by_workflow
                runs_are_found_by_labels
                runs_are_found_by_time
                runs_are_found_by_text_in_any_case
                text_is_taken_literally
                filters_narrow_each_other
            }
            tenants {
                runs_belong_to_their_tenant
                nobody_writes_to_a_run_of_another_tenant
                workflows_belong_to_their_tenant
                replies_and_blobs_belong_to_their_tenant
                approvals_belong_to_their_tenant
            }
        }
    };
    (@cases $make:expr; $($subject:ident { $($case:ident)* })*) => {
        $(mod $subject {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let subject = $make.await;
                    $crate::conformance::$subject::$case(&subject).await;
                }
            )*
        })*
    };
}

#[cfg(test)]
mod tests {
    /// A case that nobody calls proves nothing.
    #[test]
    fn every_case_is_called() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance");
        let list = include_str!("mod.rs");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("mod.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for case in text.split("pub async fn ").skip(1).filter_map(|rest| rest.split('(').next()) {
                assert!(
                    list.contains(&format!(" {case}\n")),
                    "{case} of {} is not in the list",
                    path.display()
                );
            }
        }
    }
}
