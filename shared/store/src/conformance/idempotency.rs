//! The same request twice is one deed.

use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::event::RunPaused;
use windlass_model::{Digest, PauseReason};

use super::Subject;
use super::subject::*;
use crate::{NewRun, NewWorkflow, Precondition, RunFilter, WriteError};

pub async fn a_reply_is_kept_with_the_deed(subject: &Subject) {
    let version = subject.definition().await;
    let mut create = NewRun { remember: Some(remember("a")), ..new_run(1, version) };
    create.remember.as_mut().unwrap().reply.location = None;
    subject.store.create_run(create.clone()).await.unwrap();
    let reply = create.remember.unwrap().reply;
    assert_eq!(subject.store.find_reply(TENANT, &remember("a").key).await.unwrap(), Some(reply));

    let mut write = Hand::door(&subject.row(1).await).write(vec![paused()]);
    write.remember = Some(remember("b"));
    subject.store.write_run(write).await.unwrap();
    let reply = subject.store.find_reply(TENANT, &remember("b").key).await.unwrap();
    assert_eq!(reply, Some(remember("b").reply));
}

pub async fn a_key_is_used_once(subject: &Subject) {
    let version = subject.definition().await;
    let create = |n| NewRun { remember: Some(remember("a")), ..new_run(n, version) };
    subject.store.create_run(create(1)).await.unwrap();
    let mut other = create(2);
    other.remember.as_mut().unwrap().reply.request = Digest::of(b"another body");
    let again = subject.store.create_run(other).await;
    assert!(matches!(again, Err(WriteError::KeyTaken)), "{again:?}");
    assert_eq!(subject.store.get_run(TENANT, run_id(2)).await.unwrap(), None);
    let reply = subject.store.find_reply(TENANT, &remember("a").key).await.unwrap();
    assert_eq!(reply, Some(remember("a").reply));

    let mut write = Hand::door(&subject.row(1).await).write(vec![paused()]);
    write.remember = Some(remember("a"));
    let command = subject.store.write_run(write).await;
    assert!(matches!(command, Err(WriteError::KeyTaken)), "{command:?}");
    assert_eq!(subject.record(1).await.events.len(), 1);
}

pub async fn of_many_creates_with_one_key_one_succeeds(subject: &Subject) {
    let version = subject.definition().await;
    let mut tasks = JoinSet::new();
    for n in 1..=20 {
        let store = subject.store.clone();
        let run = NewRun { remember: Some(remember("same")), ..new_run(n, version) };
        tasks.spawn(async move { store.create_run(run).await });
    }
    let mut created = 0;
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            Ok(()) => created += 1,
            Err(error) => assert!(matches!(error, WriteError::KeyTaken), "{error:?}"),
        }
    }
    let runs = subject.store.list_runs(TENANT, &RunFilter::default(), None, 100).await.unwrap();
    assert_eq!((created, runs.len()), (1, 1));
}

pub async fn a_key_belongs_to_tenant_principal_and_route(subject: &Subject) {
    let version = subject.definition().await;
    let theirs = subject.definition_of(OTHER_TENANT, "theirs").await;
    let base = NewRun { remember: Some(remember("a")), ..new_run(1, version) };
    subject.store.create_run(base).await.unwrap();
    let mut by_bob = remember("a");
    by_bob.key.principal = "user:bob".into();
    let mut elsewhere = remember("a");
    elsewhere.key.route = "POST /v1/workflows".into();
    for (n, remember) in [(2, &by_bob), (3, &elsewhere), (4, &remember("A"))] {
        let run = NewRun { remember: Some(remember.clone()), ..new_run(n, version) };
        subject.store.create_run(run).await.unwrap();
    }
    let foreign = NewRun { remember: Some(remember("a")), tenant: OTHER_TENANT, ..new_run(5, theirs) };
    subject.store.create_run(foreign).await.unwrap();
}

pub async fn a_taken_key_says_more_than_a_moved_row(subject: &Subject) {
    let row = subject.create(1).await;
    let mut write = Hand::door(&row).write(vec![paused()]);
    write.remember = Some(remember("a"));
    subject.store.write_run(write.clone()).await.unwrap();
    // The same request again, decided on what was read before the first one was written.
    let again = subject.store.write_run(write).await;
    assert!(matches!(again, Err(WriteError::KeyTaken)), "{again:?}");
}

pub async fn a_workflow_remembers_its_reply(subject: &Subject) {
    let new = NewWorkflow {
        tenant: TENANT,
        definition: definition("a", "1"),
        tags: Vec::new(),
        precondition: Precondition::Absent,
        remember: Some(remember("a")),
    };
    subject.store.put_workflow(new.clone()).await.unwrap();
    let again = subject.store.put_workflow(new.clone()).await;
    assert!(matches!(again, Err(WriteError::KeyTaken)), "{again:?}");
    let refused = NewWorkflow { remember: Some(remember("b")), ..new };
    let refused = subject.store.put_workflow(refused).await;
    assert!(matches!(refused, Err(WriteError::Moved)), "{refused:?}");
    assert_eq!(subject.store.find_reply(TENANT, &remember("b").key).await.unwrap(), None);
}

pub async fn old_replies_are_forgotten_oldest_first(subject: &Subject) {
    let age = Duration::from_secs(3_600);
    let version = subject.definition().await;
    for n in 1..=4 {
        let run = NewRun { remember: Some(remember(&n.to_string())), ..new_run(n, version) };
        subject.store.create_run(run).await.unwrap();
        subject.clock.advance(Duration::from_secs(1_000));
    }
    let remembered = async || {
        let mut keys = Vec::new();
        for n in 1..=4 {
            if subject.store.find_reply(TENANT, &remember(&n.to_string()).key).await.unwrap().is_some() {
                keys.push(n);
            }
        }
        keys
    };
    assert_eq!(subject.store.clean_up(age, 1).await.unwrap(), 1);
    assert_eq!(remembered().await, [2, 3, 4]);
    subject.clock.advance(Duration::from_secs(1_700));
    assert_eq!(subject.store.clean_up(age, 100).await.unwrap(), 2);
    assert_eq!(remembered().await, [4]);
}

fn paused() -> Happened {
    to_run(RunPaused { reason: PauseReason::Requested, message: None })
}
