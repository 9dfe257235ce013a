//! Runs that steps of other runs start, and how their end reaches them.

use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::event::{ChildFinished, ChildStarted};
use windlass_model::{ChildEnd, Payload, RunId, RunStatus};

use super::Subject;
use super::subject::*;
use crate::{EndedChild, NewRun, RunFilter, RunWrite};

const HORIZON: Duration = Duration::from_secs(10);

fn calls(n: u32) -> Happened {
    let child = ChildStarted { run_id: run_id(n), workflow: "notes".into(), version: None, until: None };
    to_step(0, 1, child)
}

fn hears(n: u32) -> Happened {
    to_step(0, 1, ChildFinished { run_id: run_id(n), status: RunStatus::Completed })
}

async fn child(subject: &Subject, n: u32, parent: RunId) -> NewRun {
    let mut child = new_run(n, subject.definition().await);
    child.parent = Some(parent);
    child.labels.insert("team".into(), "docs".into());
    child
}

/// Run `parent` starts run `n`, and parks.
async fn parked_parent(subject: &Subject, parent: u32, n: u32) {
    let mut hand = subject.held(parent, 1).await;
    hand.projection.status = RunStatus::Waiting;
    let mut write = hand.write(vec![started(0, 1), calls(n)]);
    write.children = vec![child(subject, n, run_id(parent)).await];
    write.release = true;
    subject.store.write_run(write).await.unwrap();
}

/// Run `n` is taken and completes.
async fn complete(subject: &Subject, n: u32) {
    let mut hand = Hand::engine(&subject.claim(n, 1).await.expect("it waits for an engine").row);
    hand.projection.status = RunStatus::Completed;
    hand.projection.ended_at = Some(windlass_model::Timestamp(2_000_000));
    subject.write(&mut hand, vec![completed()]).await;
}

async fn is_due(subject: &Subject, n: u32) -> bool {
    let due = subject.store.find_due(session(1), HORIZON, STALE_AFTER, 100).await.unwrap();
    due.runs.iter().any(|due| due.ring.run_id == run_id(n) && due.after.is_zero())
}

async fn ended(subject: &Subject, parent: u32) -> Vec<EndedChild> {
    subject.store.find_ended_children(TENANT, run_id(parent), 10).await.unwrap()
}

/// The parent takes in how its child has ended.
fn hearing(hand: &Hand, n: u32) -> RunWrite {
    let mut write = hand.write(vec![hears(n)]);
    write.finished = vec![run_id(n)];
    write
}

pub async fn a_child_is_there_with_the_write_that_starts_it(subject: &Subject) {
    parked_parent(subject, 1, 2).await;
    let row = subject.row(2).await;
    assert_eq!((row.parent, row.status, row.next_seq.0), (Some(run_id(1)), RunStatus::Queued, 2));
    assert_eq!(row.labels["team"], "docs");
    assert_eq!(subject.record(2).await.events[0].body.name(), "run.created");
    assert_eq!(subject.row(1).await.parent, None);
    let of_one = RunFilter { parent: Some(run_id(1)), ..RunFilter::default() };
    let found = subject.store.list_runs(TENANT, &of_one, None, 10).await.unwrap();
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [run_id(2)]);
    assert_eq!(subject.store.list_runs(OTHER_TENANT, &of_one, None, 10).await.unwrap(), []);
}

pub async fn a_write_that_does_not_happen_starts_no_child(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let mut write = hand.write(vec![started(0, 1), calls(2)]);
    write.children = vec![child(subject, 2, run_id(1)).await];
    subject.write(&mut hand, vec![]).await;
    assert!(subject.store.write_run(write).await.is_err());
    assert_eq!(subject.store.get_run(TENANT, run_id(2)).await.unwrap(), None);
    // Nor does a child that cannot be written leave anything of the write behind.
    let mut write = hand.write(vec![started(0, 1), calls(2), calls(3)]);
    write.children = vec![child(subject, 2, run_id(1)).await, child(subject, 3, run_id(1)).await];
    write.children[1].version_id.0 += 1_000;
    assert!(is_refused(&subject.store.write_run(write).await));
    assert_eq!(subject.store.get_run(TENANT, run_id(2)).await.unwrap(), None);
    assert_eq!(subject.row(1).await.next_seq, hand.row.next_seq);
}

pub async fn the_end_of_a_child_moves_its_parent_until_it_is_taken_in(subject: &Subject) {
    parked_parent(subject, 1, 2).await;
    assert!(!is_due(subject, 1).await);
    assert!(subject.claim(1, 1).await.is_none());
    assert_eq!(ended(subject, 1).await, []);
    complete(subject, 2).await;
    assert!(is_due(subject, 1).await);
    assert!(subject.store.count_runs().await.unwrap().oldest_claimable.is_some());
    let end = ChildEnd::Completed(Payload::null());
    assert_eq!(ended(subject, 1).await, [EndedChild { run_id: run_id(2), end }]);
    let of_others = subject.store.find_ended_children(OTHER_TENANT, run_id(1), 10).await.unwrap();
    assert_eq!(of_others, []);

    let claimed = subject.claim(1, 1).await.expect("its child has ended");
    assert_eq!(claimed.row.status, RunStatus::Running);
    assert!(!is_due(subject, 1).await);
    let mut hand = Hand::engine(&claimed.row);
    hand.projection.status = RunStatus::Waiting;
    let mut write = hearing(&hand, 2);
    write.release = true;
    subject.store.write_run(write).await.unwrap();
    assert_eq!(ended(subject, 1).await, []);
    assert!(!is_due(subject, 1).await);
    assert!(subject.claim(1, 1).await.is_none());
    assert_eq!(subject.store.count_runs().await.unwrap().oldest_claimable, None);
}

pub async fn a_paused_parent_is_moved_as_well_and_an_ended_one_is_not(subject: &Subject) {
    for parent in [1, 11] {
        parked_parent(subject, parent, parent + 1).await;
    }
    let mut door = Hand::door(&subject.row(1).await);
    door.projection.status = RunStatus::Paused;
    door.projection.paused_reason = Some(windlass_model::PauseReason::Requested);
    subject.write(&mut door, vec![]).await;
    let mut door = Hand::door(&subject.row(11).await);
    door.projection.status = RunStatus::Completed;
    subject.write(&mut door, vec![completed()]).await;
    for child in [2, 12] {
        complete(subject, child).await;
    }
    assert!(is_due(subject, 1).await);
    assert_eq!(subject.claim(1, 1).await.unwrap().row.status, RunStatus::Paused);
    assert!(!is_due(subject, 11).await);
    assert!(subject.claim(11, 1).await.is_none());
}

pub async fn the_holder_of_a_parent_hears_of_the_end_of_a_child(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let mut write = hand.write(vec![started(0, 1), calls(2)]);
    write.children = vec![child(subject, 2, run_id(1)).await];
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);
    assert_eq!(subject.moved(1).await, []);
    complete(subject, 2).await;
    assert_eq!(subject.moved(1).await, [run_id(1)]);
    assert_eq!(subject.moved(2).await, []);
    subject.store.write_run(hearing(&hand, 2)).await.unwrap();
    assert_eq!(subject.moved(1).await, []);
}

pub async fn children_of_many_parents_at_once_are_all_there(subject: &Subject) {
    const PARENTS: u32 = 100;
    let hands = subject.all_held(PARENTS, 1).await;
    let version = subject.definition().await;
    let mut tasks = JoinSet::new();
    for hand in hands {
        let n = (1..=PARENTS).find(|n| run_id(*n) == hand.row.id).expect("one of them");
        let store = subject.store.clone();
        tasks.spawn(async move {
            let children = [1_000 + n, 2_000 + n, 3_000 + n];
            let mut write = hand.write(children.iter().map(|n| calls(*n)).collect());
            write.children = children.iter().map(|n| new_run(*n, version)).collect();
            write.children.iter_mut().for_each(|child| child.parent = Some(hand.row.id));
            store.write_run(write).await.unwrap();
        });
    }
    tasks.join_all().await;
    for n in 1..=PARENTS {
        let filter = RunFilter { parent: Some(run_id(n)), ..RunFilter::default() };
        let found = subject.store.list_runs(TENANT, &filter, None, 10).await.unwrap();
        let ids: Vec<_> = found.iter().map(|row| row.id).collect();
        assert_eq!(ids, [run_id(3_000 + n), run_id(2_000 + n), run_id(1_000 + n)]);
    }
}
