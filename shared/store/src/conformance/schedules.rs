//! Schedules: each of their times comes once.

use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::Timestamp;

use super::Subject;
use super::subject::*;
use crate::{Firing, NewRun, NewSchedule, Precondition, ScheduleRow, WriteError};

fn new(name: &str, next_at: Option<Timestamp>) -> NewSchedule {
    NewSchedule {
        tenant: TENANT,
        name: name.into(),
        spec: r#"{"workflow": "report"}"#.into(),
        is_paused: next_at.is_none(),
        next_at,
        is_triggered: false,
        precondition: Precondition::None,
        remember: None,
    }
}

fn ahead(subject: &Subject, seconds: u64) -> Timestamp {
    subject.clock.now().plus(Duration::from_secs(seconds))
}

/// A schedule whose time has come.
async fn due(subject: &Subject) -> ScheduleRow {
    let at = ahead(subject, 10);
    subject.store.put_schedule(new("nightly", Some(at))).await.unwrap();
    subject.clock.advance(Duration::from_secs(11));
    subject.store.find_due_schedules(10).await.unwrap().pop().expect("its time has come")
}

fn firing(row: &ScheduleRow, next_at: Option<Timestamp>) -> Firing {
    let at = row.next_at.expect("it waits for a time");
    Firing { tenant: row.tenant, name: row.name.clone(), revision: row.revision, at, next_at, problem: None }
}

async fn get(subject: &Subject, name: &str) -> Option<ScheduleRow> {
    subject.store.get_schedule(TENANT, name).await.unwrap()
}

pub async fn a_schedule_is_written_read_changed_and_deleted(subject: &Subject) {
    let at = ahead(subject, 60);
    let (made, created) = subject.store.put_schedule(new("nightly", Some(at))).await.unwrap();
    assert!(created);
    assert_eq!((made.revision, made.next_at, made.is_paused), (1, Some(at), false));
    assert_eq!(get(subject, "nightly").await, Some(made));
    let (changed, created) = subject.store.put_schedule(new("nightly", None)).await.unwrap();
    assert_eq!((created, changed.revision, changed.next_at, changed.is_paused), (false, 2, None, true));
    assert!(subject.store.delete_schedule(TENANT, "nightly", Some(1)).await.is_err());
    assert!(subject.store.delete_schedule(TENANT, "nightly", Some(2)).await.unwrap());
    assert_eq!(get(subject, "nightly").await, None);
    assert!(!subject.store.delete_schedule(TENANT, "nightly", None).await.unwrap());
    let (again, created) = subject.store.put_schedule(new("nightly", None)).await.unwrap();
    assert!(created && again.revision > 2, "no revision ever means two things: {again:?}");
}

pub async fn a_schedule_is_changed_only_by_who_knows_it(subject: &Subject) {
    let put = async |next_at, precondition| {
        subject.store.put_schedule(NewSchedule { precondition, ..new("nightly", next_at) }).await
    };
    assert!(matches!(put(None, Precondition::Revision(1)).await, Err(WriteError::Moved)));
    put(None, Precondition::Absent).await.unwrap();
    assert!(matches!(put(None, Precondition::Absent).await, Err(WriteError::Moved)));
    let at = ahead(subject, 60);
    put(Some(at), Precondition::Revision(1)).await.unwrap();
    assert!(matches!(put(Some(at), Precondition::Revision(1)).await, Err(WriteError::Moved)));
}

pub async fn a_schedule_that_is_put_as_it_is_stays_as_it_is(subject: &Subject) {
    let row = due(subject).await;
    let later = Some(ahead(subject, 100));
    let same = new("nightly", later);
    let put = subject.store.put_schedule(same.clone()).await.unwrap();
    assert_eq!((put, get(subject, "nightly").await), ((row.clone(), false), Some(row.clone())));
    let triggered = NewSchedule { is_triggered: true, ..same };
    let (after, _) = subject.store.put_schedule(triggered).await.unwrap();
    assert_eq!((after.revision, after.next_at), (row.revision + 1, later));
}

pub async fn a_time_that_has_come_is_not_waited_for_again(subject: &Subject) {
    let row = due(subject).await;
    // Somebody looks at it, and writes when its time has come: nothing that others see as a change.
    let next_at = Some(ahead(subject, 100));
    subject.store.fire_schedule(firing(&row, next_at)).await.unwrap();
    let other = NewSchedule {
        spec: r#"{"workflow": "other"}"#.into(),
        precondition: Precondition::Revision(row.revision),
        ..new("nightly", row.next_at)
    };
    for is_triggered in [false, true] {
        let put = subject.store.put_schedule(NewSchedule { is_triggered, ..other.clone() }).await;
        assert!(matches!(put, Err(WriteError::Moved)), "{put:?}");
    }
    assert_eq!(get(subject, "nightly").await.unwrap().next_at, next_at);
    let put = subject.store.put_schedule(NewSchedule { next_at, ..other }).await.unwrap();
    assert_eq!(put.0.revision, row.revision + 1);
}

pub async fn a_schedule_remembers_its_reply(subject: &Subject) {
    let remembered = NewSchedule { remember: Some(remember("a")), ..new("nightly", None) };
    subject.store.put_schedule(remembered.clone()).await.unwrap();
    assert!(matches!(subject.store.put_schedule(remembered).await, Err(WriteError::KeyTaken)));
    assert_eq!(get(subject, "nightly").await.unwrap().revision, 1);
}

pub async fn schedules_are_due_when_their_time_has_come(subject: &Subject) {
    for (name, seconds) in [("soon", 20), ("sooner", 10), ("later", 1_000)] {
        subject.store.put_schedule(new(name, Some(ahead(subject, seconds)))).await.unwrap();
    }
    subject.store.put_schedule(new("paused", None)).await.unwrap();
    subject.store.put_schedule(new("deleted", Some(ahead(subject, 5)))).await.unwrap();
    subject.store.delete_schedule(TENANT, "deleted", None).await.unwrap();
    let are_due =
        async || subject.store.find_due(session(1), STALE_AFTER, STALE_AFTER, 0).await.unwrap().has_schedules;
    assert!(subject.store.find_due_schedules(10).await.unwrap().is_empty());
    assert!(!are_due().await);
    subject.clock.advance(Duration::from_secs(30));
    assert!(are_due().await);
    let due = subject.store.find_due_schedules(10).await.unwrap();
    assert_eq!(due.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["sooner", "soon"]);
    assert_eq!(subject.store.find_due_schedules(1).await.unwrap()[0].name, "sooner");
}

pub async fn a_time_comes_with_its_run_or_not_at_all(subject: &Subject) {
    let row = due(subject).await;
    let version = subject.definition().await;
    let next_at = Some(ahead(subject, 100));
    let run = NewRun { firing: Some(firing(&row, next_at)), ..new_run(1, version) };
    subject.store.create_run(run.clone()).await.unwrap();
    let after = get(subject, "nightly").await.unwrap();
    assert_eq!((after.last_at, after.last_run_id, after.next_at), (row.next_at, Some(run_id(1)), next_at));
    assert_eq!(after.revision, row.revision, "nobody has changed it");
    assert!(subject.store.find_due_schedules(10).await.unwrap().is_empty());
    let again = NewRun { id: run_id(2), ..run };
    assert!(matches!(subject.store.create_run(again).await, Err(WriteError::Moved)));
    assert!(subject.store.get_run(TENANT, run_id(2)).await.unwrap().is_none());
}

pub async fn of_many_who_notice_a_time_one_starts_its_run(subject: &Subject) {
    let row = due(subject).await;
    let version = subject.definition().await;
    let mut tasks = JoinSet::new();
    for n in 1..=12 {
        let store = subject.store.clone();
        let run = NewRun { firing: Some(firing(&row, None)), ..new_run(n, version) };
        tasks.spawn(async move { store.create_run(run).await });
    }
    let written = tasks.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(written, 1);
}

pub async fn a_time_that_comes_without_a_run_says_why(subject: &Subject) {
    let row = due(subject).await;
    let next_at = Some(ahead(subject, 100));
    let firing = Firing { problem: Some("the inputs do not fit".into()), ..firing(&row, next_at) };
    subject.store.fire_schedule(firing.clone()).await.unwrap();
    let after = get(subject, "nightly").await.unwrap();
    assert_eq!((after.last_at, after.next_at, after.last_run_id), (row.next_at, next_at, None));
    assert_eq!(after.last_problem.as_deref(), Some("the inputs do not fit"));
    assert!(matches!(subject.store.fire_schedule(firing).await, Err(WriteError::Moved)));
}

pub async fn a_changed_or_deleted_schedule_starts_nothing_of_before(subject: &Subject) {
    let row = due(subject).await;
    let version = subject.definition().await;
    let run = NewRun { firing: Some(firing(&row, None)), ..new_run(1, version) };
    let other = r#"{"workflow": "other"}"#.into();
    subject.store.put_schedule(NewSchedule { spec: other, ..new("nightly", row.next_at) }).await.unwrap();
    assert!(matches!(subject.store.create_run(run.clone()).await, Err(WriteError::Moved)));
    subject.store.delete_schedule(TENANT, "nightly", None).await.unwrap();
    assert!(matches!(subject.store.create_run(run).await, Err(WriteError::Moved)));
}

pub async fn schedules_belong_to_their_tenant_and_come_in_pages(subject: &Subject) {
    for name in ["b", "a", "c"] {
        subject.store.put_schedule(new(name, None)).await.unwrap();
    }
    subject.store.put_schedule(NewSchedule { tenant: OTHER_TENANT, ..new("theirs", None) }).await.unwrap();
    let names = async |after, limit| -> Vec<String> {
        let page = subject.store.list_schedules(TENANT, after, limit).await.unwrap();
        page.into_iter().map(|row| row.name).collect()
    };
    assert_eq!(names(None, 2).await, ["a", "b"]);
    assert_eq!(names(Some("b"), 2).await, ["c"]);
    assert!(get(subject, "theirs").await.is_none());
}
