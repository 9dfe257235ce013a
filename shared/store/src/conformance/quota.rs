//! How many runs of a tenant are open, and whether one more may be.

use std::sync::Arc;

use tokio::task::JoinSet;
use windlass_model::{RunStatus, TenantId, VersionId};

use super::Subject;
use super::subject::*;
use crate::{NewRun, Projection, Quota, QuotaError, Store, WriteError};

/// Starts a run if it may.
async fn start(store: &dyn Store, quota: &Quota, run: NewRun) -> bool {
    match quota.take(run.tenant).await {
        Ok(place) => {
            let written = store.create_run(run).await;
            place.settle(&written);
            written.expect("a fresh run");
            true
        }
        Err(QuotaError::Full { .. }) => false,
        Err(QuotaError::Store(error)) => panic!("{error}"),
    }
}

async fn end(subject: &Subject, n: u32) {
    let mut hand = Hand::door(&subject.row(n).await);
    let ended_at = Some(subject.clock.now());
    hand.projection = Projection { ended_at, ..projection(RunStatus::Completed) };
    subject.write(&mut hand, vec![completed()]).await;
}

async fn open(subject: &Subject, tenant: TenantId, limit: u32) -> u64 {
    subject.store.count_open_runs(tenant, limit).await.unwrap()
}

async fn theirs(subject: &Subject) -> VersionId {
    subject.definition_of(OTHER_TENANT, "theirs").await
}

pub async fn open_runs_are_counted_by_tenant_and_no_further_than_asked(subject: &Subject) {
    assert_eq!(open(subject, TENANT, 10).await, 0);
    for n in 1..=3 {
        subject.create(n).await;
    }
    subject.held(4, 1).await;
    subject.parked(5, 1, projection(RunStatus::Waiting)).await;
    subject.parked(6, 1, projection(RunStatus::Canceling)).await;
    let run = NewRun { tenant: OTHER_TENANT, ..new_run(7, theirs(subject).await) };
    subject.store.create_run(run).await.unwrap();
    assert_eq!(open(subject, TENANT, 100).await, 6);
    assert_eq!(open(subject, TENANT, 6).await, 6);
    assert_eq!(open(subject, TENANT, 2).await, 2);
    assert_eq!(open(subject, OTHER_TENANT, 100).await, 1);
    end(subject, 1).await;
    assert_eq!(open(subject, TENANT, 100).await, 5);
}

pub async fn of_many_who_start_at_once_as_many_do_as_may(subject: &Subject) {
    const MAX: u32 = 5;
    let version = subject.definition().await;
    let quota = Arc::new(Quota::new(subject.store.clone(), Some(MAX)));
    let mut tasks = JoinSet::new();
    for n in 1..=20 {
        let (store, quota) = (subject.store.clone(), quota.clone());
        tasks.spawn(async move { start(&*store, &quota, new_run(n, version)).await });
    }
    let started = tasks.join_all().await;
    assert_eq!(started.iter().filter(|started| **started).count(), MAX as usize, "{started:?}");
    assert_eq!(open(subject, TENANT, 100).await, u64::from(MAX));
}

pub async fn a_run_that_ends_makes_room_and_one_that_is_not_written_takes_none(subject: &Subject) {
    let (store, version) = (&subject.store, subject.definition().await);
    let quota = Quota::new(store.clone(), Some(2));
    assert!(start(&**store, &quota, new_run(1, version)).await);
    // Given back, and refused by the database: neither is there.
    drop(quota.take(TENANT).await.expect("there is room"));
    quota.take(TENANT).await.expect("there is room").settle(&Err(WriteError::Moved));
    assert!(start(&**store, &quota, new_run(2, version)).await);
    assert!(matches!(quota.take(TENANT).await, Err(QuotaError::Full { max: 2 })));
    end(subject, 1).await;
    assert!(start(&**store, &quota, new_run(3, version)).await);
    assert!(!start(&**store, &quota, new_run(4, version)).await);
    let boundless = Quota::new(store.clone(), None);
    assert!(start(&**store, &boundless, new_run(4, version)).await);
}

pub async fn each_tenant_has_a_quota_of_its_own(subject: &Subject) {
    let (store, version) = (&subject.store, subject.definition().await);
    let quota = Quota::new(store.clone(), Some(1));
    assert!(start(&**store, &quota, new_run(1, version)).await);
    let version = theirs(subject).await;
    let run = |n| NewRun { tenant: OTHER_TENANT, ..new_run(n, version) };
    assert!(start(&**store, &quota, run(2)).await);
    assert!(!start(&**store, &quota, run(3)).await);
}
