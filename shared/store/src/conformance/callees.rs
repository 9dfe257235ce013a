//! Tools and agents that are registered.

use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::callee::CalleeKind::{self, Agent, Tool};

use super::Subject;
use super::subject::*;
use crate::{NewCallee, Precondition, PutCallee, WriteError};

fn callee(kind: CalleeKind, name: &str, spec: &str) -> NewCallee {
    NewCallee {
        tenant: TENANT,
        kind,
        name: name.into(),
        hash: definition(name, spec).hash,
        spec: spec.into(),
        risk: Some("high".into()),
        precondition: Precondition::None,
        remember: None,
    }
}

async fn put(subject: &Subject, new: NewCallee) -> PutCallee {
    subject.store.put_callee(new).await.expect("the precondition holds")
}

async fn names(subject: &Subject, kind: CalleeKind, after: Option<&str>, limit: u32) -> Vec<String> {
    let rows = subject.store.list_callees(TENANT, kind, after, limit).await.unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

pub async fn a_callee_is_registered_and_read_back(subject: &Subject) {
    let new = callee(Tool, "stock.count", "1");
    let put = put(subject, new.clone()).await;
    assert!(put.created && put.changed);
    let row = put.callee;
    assert_eq!((row.name.as_str(), row.revision, row.risk.as_deref()), ("stock.count", 1, Some("high")));
    assert_eq!((&row.hash, row.created_at), (&new.hash, row.updated_at));
    let read = subject.store.get_callee(TENANT, Tool, "stock.count").await.unwrap();
    assert_eq!(read, Some((row, "1".to_owned())));
    assert_eq!(subject.store.get_callee(TENANT, Agent, "stock.count").await.unwrap(), None);
}

pub async fn a_callee_that_changes_has_a_new_revision(subject: &Subject) {
    let first = put(subject, callee(Tool, "a", "1")).await.callee;
    subject.clock.advance(Duration::from_secs(1));
    let same = put(subject, callee(Tool, "a", "1")).await;
    assert!(!same.created && !same.changed && same.callee == first);
    let second = put(subject, NewCallee { risk: None, ..callee(Tool, "a", "2") }).await;
    assert!(!second.created && second.changed);
    assert_eq!((second.callee.revision, second.callee.risk.as_deref()), (2, None));
    assert!(second.callee.created_at == first.created_at && second.callee.updated_at > first.updated_at);
}

pub async fn a_callee_is_changed_only_by_who_knows_it(subject: &Subject) {
    let expect = |precondition, spec: &str| NewCallee { precondition, ..callee(Tool, "a", spec) };
    for (n, precondition) in [Precondition::Revision(1), Precondition::Revision(0)].into_iter().enumerate() {
        let early = subject.store.put_callee(expect(precondition, &n.to_string())).await;
        assert!(matches!(early, Err(WriteError::Moved)), "{early:?}");
    }
    put(subject, expect(Precondition::Absent, "1")).await;
    for precondition in [Precondition::Absent, Precondition::Revision(2)] {
        let refused = subject.store.put_callee(expect(precondition, "2")).await;
        assert!(matches!(refused, Err(WriteError::Moved)), "{refused:?}");
    }
    assert_eq!(put(subject, expect(Precondition::Revision(1), "2")).await.callee.revision, 2);
}

pub async fn of_many_first_registrations_one_succeeds(subject: &Subject) {
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let (store, precondition) = (subject.store.clone(), Precondition::Absent);
        let new = NewCallee { precondition, ..callee(Tool, "a", &n.to_string()) };
        tasks.spawn(async move { store.put_callee(new).await.is_ok() });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
}

pub async fn a_deleted_callee_is_gone_and_its_name_counts_on(subject: &Subject) {
    let store = &subject.store;
    put(subject, callee(Tool, "a", "1")).await;
    put(subject, callee(Agent, "a", "1")).await;
    let refused = store.delete_callee(TENANT, Tool, "a", Some(7)).await;
    assert!(matches!(refused, Err(WriteError::Moved)), "{refused:?}");
    assert!(store.delete_callee(TENANT, Tool, "a", Some(1)).await.unwrap());
    assert!(!store.delete_callee(TENANT, Tool, "a", None).await.unwrap());
    assert_eq!(store.get_callee(TENANT, Tool, "a").await.unwrap(), None);
    assert!(names(subject, Tool, None, 10).await.is_empty());
    assert_eq!(names(subject, Agent, None, 10).await, ["a"]);
    let again =
        put(subject, NewCallee { precondition: Precondition::Absent, ..callee(Tool, "a", "1") }).await;
    assert!(again.created && again.callee.revision == 3, "{again:?}");
}

pub async fn callees_are_listed_by_name_in_pages(subject: &Subject) {
    for name in ["b", "a.z", "a-b", "c"] {
        put(subject, callee(Tool, name, "1")).await;
    }
    put(subject, callee(Agent, "bb", "1")).await;
    assert_eq!(names(subject, Tool, None, 10).await, ["a-b", "a.z", "b", "c"]);
    assert_eq!(names(subject, Tool, Some("a.z"), 1).await, ["b"]);
}

pub async fn a_registration_remembers_its_reply(subject: &Subject) {
    let new = |spec| NewCallee { remember: Some(remember("a")), ..callee(Tool, "a", spec) };
    put(subject, new("1")).await;
    assert!(subject.store.find_reply(TENANT, &remember("a").key).await.unwrap().is_some());
    let again = subject.store.put_callee(new("2")).await;
    assert!(matches!(again, Err(WriteError::KeyTaken)), "{again:?}");
    assert_eq!(subject.store.get_callee(TENANT, Tool, "a").await.unwrap().unwrap().1, "1");
}

pub async fn callees_belong_to_their_tenant(subject: &Subject) {
    let store = &subject.store;
    put(subject, callee(Tool, "a", "ours")).await;
    assert_eq!(store.get_callee(OTHER_TENANT, Tool, "a").await.unwrap(), None);
    assert!(!store.delete_callee(OTHER_TENANT, Tool, "a", None).await.unwrap());
    let theirs = put(subject, NewCallee { tenant: OTHER_TENANT, ..callee(Tool, "a", "theirs") }).await;
    assert!(theirs.created);
    assert_eq!(store.get_callee(TENANT, Tool, "a").await.unwrap().unwrap().1, "ours");
    assert_eq!(store.list_callees(OTHER_TENANT, Tool, None, 10).await.unwrap().len(), 1);
}
