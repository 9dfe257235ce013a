//! Concurrency groups: who has a place, and whose turn it is.

use tokio::task::JoinSet;
use windlass_model::concurrency::{Group, OnConflict};
use windlass_model::{EventBody, Priority, RunId, RunStatus};

use super::Subject;
use super::subject::*;
use crate::{Admissions, NewRun, Newcomer, WriteError};

const NAME: &str = "deploy";

fn group(max: u32, on_conflict: OnConflict) -> Group {
    Group { name: NAME.into(), max, on_conflict }
}

async fn create(subject: &Subject, n: u32, group: Group) -> Result<(), WriteError> {
    let version = subject.definition().await;
    subject.store.create_run(NewRun { group: Some(group), ..new_run(n, version) }).await
}

/// Runs 1 to `count` wait for the one place there is.
async fn queue(subject: &Subject, count: u32) {
    for n in 1..=count {
        create(subject, n, group(1, OnConflict::Queue)).await.unwrap();
    }
}

async fn look(subject: &Subject) -> Admissions {
    subject.store.admit_runs(TENANT, NAME, None).await.unwrap()
}

fn admitted(admissions: &Admissions) -> Vec<RunId> {
    admissions.admitted.iter().map(|it| it.ring.run_id).collect()
}

/// Takes a run and ends it.
async fn end(subject: &Subject, n: u32) {
    subject.renew(1).await;
    let mut hand = Hand::engine(&subject.claim(n, 1).await.expect("a claimable run").row);
    hand.projection = projection(RunStatus::Completed);
    hand.projection.ended_at = Some(subject.clock.now());
    let mut write = hand.write(vec![completed()]);
    write.leaves_group = true;
    subject.store.write_run(write).await.unwrap();
}

pub async fn as_many_runs_get_in_as_there_are_places(subject: &Subject) {
    for n in 1..=3 {
        create(subject, n, group(2, OnConflict::Queue)).await.unwrap();
    }
    assert_eq!(admitted(&look(subject).await), [run_id(1), run_id(2)]);
    let again = look(subject).await;
    assert!(again.admitted.is_empty());
    assert_eq!(again.holders, [run_id(1), run_id(2)]);
    let members = subject.store.list_group(TENANT, NAME, 10).await.unwrap();
    let shown: Vec<_> = members.iter().map(|member| (member.run_id, member.has_place)).collect();
    assert_eq!(shown, [(run_id(1), true), (run_id(2), true), (run_id(3), false)]);
}

pub async fn the_most_urgent_gets_in_first_and_then_the_oldest(subject: &Subject) {
    let version = subject.definition().await;
    for (n, priority) in [(1, Priority::Low), (2, Priority::Normal), (4, Priority::High), (3, Priority::High)]
    {
        let group = Some(group(1, OnConflict::Queue));
        subject.store.create_run(NewRun { group, priority, ..new_run(n, version) }).await.unwrap();
    }
    for n in [3, 4, 2, 1] {
        assert_eq!(admitted(&look(subject).await), [run_id(n)]);
        end(subject, n).await;
    }
}

pub async fn a_run_that_gets_in_says_so_and_wants_an_engine(subject: &Subject) {
    queue(subject, 2).await;
    let parked = subject.row(1).await;
    let admissions = look(subject).await;
    let row = subject.row(1).await;
    assert_eq!((row.status, row.version.0), (RunStatus::Queued, parked.version.0 + 1));
    let record = subject.record(1).await;
    let last = record.events.last().unwrap();
    assert!(matches!(last.body, EventBody::PlaceTaken(_)));
    assert_eq!(last, &admissions.admitted[0].event);
    assert_eq!((last.seq, row.next_seq), (parked.next_seq, parked.next_seq.next()));
    assert_eq!(subject.record(2).await.events.len(), 1, "nothing happened to the other");
}

pub async fn a_waiting_run_that_gets_in_is_due_or_its_holder_hears_of_it(subject: &Subject) {
    queue(subject, 2).await;
    for (n, lets_go) in [(1, true), (2, false)] {
        subject.renew(n).await;
        let mut hand = Hand::engine(&subject.claim(n, n).await.unwrap().row);
        hand.projection.status = RunStatus::Waiting;
        let mut write = hand.write(Vec::new());
        write.release = lets_go;
        subject.store.write_run(write).await.unwrap();
    }
    look(subject).await;
    assert_eq!(subject.row(1).await.status, RunStatus::Queued);
    end(subject, 1).await;
    assert_eq!(admitted(&look(subject).await), [run_id(2)]);
    assert_eq!(subject.row(2).await.status, RunStatus::Running);
    assert_eq!(subject.moved(2).await, [run_id(2)]);
}

pub async fn a_paused_run_gets_in_and_stays_paused(subject: &Subject) {
    queue(subject, 1).await;
    let mut hand = Hand::door(&subject.row(1).await);
    hand.projection.status = RunStatus::Paused;
    hand.projection.paused_reason = Some(windlass_model::PauseReason::Requested);
    subject.store.write_run(hand.write(Vec::new())).await.unwrap();
    assert_eq!(admitted(&look(subject).await), [run_id(1)]);
    assert_eq!(subject.row(1).await.status, RunStatus::Paused);
}

pub async fn the_end_of_a_run_leaves_its_group_to_be_found_until_somebody_looks(subject: &Subject) {
    queue(subject, 2).await;
    // Whoever has no room for runs hears of them all the same.
    let freed =
        async || subject.store.find_due(session(1), STALE_AFTER, STALE_AFTER, 0).await.unwrap().groups;
    assert!(freed().await.is_empty());
    look(subject).await;
    end(subject, 1).await;
    assert_eq!(freed().await, [(TENANT, NAME.to_owned())]);
    assert_eq!(admitted(&look(subject).await), [run_id(2)]);
    assert!(freed().await.is_empty());
    end(subject, 2).await;
    // Though nobody waits any more, and nothing else is to be found.
    assert_eq!(freed().await, [(TENANT, NAME.to_owned())]);
    look(subject).await;
    assert!(subject.store.list_group(TENANT, NAME, 10).await.unwrap().is_empty());
}

pub async fn of_many_looks_at_once_each_place_is_given_once(subject: &Subject) {
    let version = subject.definition().await;
    for n in 1..=20 {
        let group = Some(group(3, OnConflict::Queue));
        subject.store.create_run(NewRun { group, ..new_run(n, version) }).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for n in 1..=8 {
        let store = subject.store.clone();
        let newcomer =
            Newcomer { run_id: run_id(n), priority: Priority::Normal, group: group(3, OnConflict::Queue) };
        tasks.spawn(async move { store.admit_runs(TENANT, NAME, Some(newcomer)).await.unwrap() });
    }
    let mut all: Vec<RunId> = tasks.join_all().await.iter().flat_map(admitted).collect();
    all.sort_unstable();
    assert_eq!(all, [run_id(1), run_id(2), run_id(3)]);
}

pub async fn a_newcomer_asks_once_and_waits_from_then_on(subject: &Subject) {
    let version = subject.definition().await;
    subject.store.create_run(new_run(1, version)).await.unwrap();
    queue_second(subject, version).await;
    let newcomer =
        |n| Newcomer { run_id: run_id(n), priority: Priority::Normal, group: group(1, OnConflict::Queue) };
    let first = subject.store.admit_runs(TENANT, NAME, Some(newcomer(2))).await.unwrap();
    assert_eq!(admitted(&first), [run_id(2)]);
    let late = subject.store.admit_runs(TENANT, NAME, Some(newcomer(1))).await.unwrap();
    assert!(late.admitted.is_empty());
    assert_eq!(late.holders, [run_id(2)]);
    subject.store.admit_runs(TENANT, NAME, Some(newcomer(1))).await.unwrap();
    assert_eq!(subject.store.list_group(TENANT, NAME, 10).await.unwrap().len(), 2);
}

async fn queue_second(subject: &Subject, version: windlass_model::VersionId) {
    let group = Some(group(1, OnConflict::Queue));
    subject.store.create_run(NewRun { group, ..new_run(2, version) }).await.unwrap();
}

pub async fn a_run_that_has_ended_gets_no_place(subject: &Subject) {
    let version = subject.definition().await;
    subject.store.create_run(new_run(1, version)).await.unwrap();
    subject.renew(1).await;
    let mut hand = Hand::engine(&subject.claim(1, 1).await.unwrap().row);
    hand.projection = projection(RunStatus::Completed);
    hand.projection.ended_at = Some(subject.clock.now());
    subject.write(&mut hand, vec![completed()]).await;
    queue_second(subject, version).await;
    assert_eq!(admitted(&look(subject).await), [run_id(2)]);
    // An engine that was cut off asks for it at last.
    for on_conflict in [OnConflict::Queue, OnConflict::CancelRunning] {
        let newcomer = Newcomer { run_id: run_id(1), priority: Priority::High, group: group(1, on_conflict) };
        let refused = subject.store.admit_runs(TENANT, NAME, Some(newcomer)).await.unwrap();
        assert!(refused.admitted.is_empty() && refused.in_the_way.is_empty(), "{refused:?}");
        assert_eq!(refused.holders, [run_id(2)], "it stands in nobody's way");
    }
    assert_eq!(subject.store.list_group(TENANT, NAME, 10).await.unwrap().len(), 1);
}

pub async fn a_run_that_is_being_stopped_gets_no_place(subject: &Subject) {
    queue(subject, 2).await;
    let mut hand = Hand::door(&subject.row(1).await);
    hand.projection = projection(RunStatus::Canceling);
    hand.projection.wake_at = Some(subject.clock.now());
    subject.store.write_run(hand.write(Vec::new())).await.unwrap();
    let before = subject.row(1).await;
    assert_eq!(admitted(&look(subject).await), []);
    assert_eq!(admitted(&look(subject).await), [run_id(2)], "it stands in nobody's way");
    assert_eq!(subject.row(1).await, before, "nothing happened to it");
}

pub async fn a_full_group_turns_away_who_will_not_wait(subject: &Subject) {
    create(subject, 1, group(1, OnConflict::Reject)).await.unwrap();
    let refused = create(subject, 2, group(1, OnConflict::Reject)).await;
    assert!(matches!(refused, Err(WriteError::Occupied { by }) if by == run_id(1)), "{refused:?}");
    assert!(subject.store.get_run(TENANT, run_id(2)).await.unwrap().is_none());
    look(subject).await;
    assert!(create(subject, 2, group(1, OnConflict::Reject)).await.is_err());
    create(subject, 3, group(2, OnConflict::Reject)).await.unwrap();
    end(subject, 1).await;
    look(subject).await;
    end(subject, 3).await;
    create(subject, 2, group(1, OnConflict::Reject)).await.unwrap();
}

pub async fn of_many_who_will_not_wait_one_is_created(subject: &Subject) {
    let version = subject.definition().await;
    let mut tasks = JoinSet::new();
    for n in 1..=12 {
        let store = subject.store.clone();
        let run = NewRun { group: Some(group(1, OnConflict::Reject)), ..new_run(n, version) };
        tasks.spawn(async move { store.create_run(run).await });
    }
    let created = tasks.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(created, 1);
}

pub async fn who_cancels_others_is_told_of_all_that_are_older(subject: &Subject) {
    queue(subject, 1).await;
    look(subject).await;
    for n in 2..=4 {
        let on_conflict = if n == 3 { OnConflict::CancelRunning } else { OnConflict::Queue };
        create(subject, n, group(1, on_conflict)).await.unwrap();
    }
    let mut in_the_way = look(subject).await.in_the_way;
    in_the_way.sort_unstable();
    assert_eq!(in_the_way, [run_id(1), run_id(2)]);
}

pub async fn groups_belong_to_their_tenant(subject: &Subject) {
    queue(subject, 1).await;
    let theirs = subject.definition_of(OTHER_TENANT, "theirs").await;
    let foreign =
        NewRun { tenant: OTHER_TENANT, group: Some(group(1, OnConflict::Reject)), ..new_run(2, theirs) };
    subject.store.create_run(foreign).await.unwrap();
    assert_eq!(admitted(&look(subject).await), [run_id(1)]);
    let members = subject.store.list_group(OTHER_TENANT, NAME, 10).await.unwrap();
    assert_eq!(members.iter().map(|it| (it.run_id, it.has_place)).collect::<Vec<_>>(), [(run_id(2), false)]);
}
