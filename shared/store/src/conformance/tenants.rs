//! Nobody sees or touches what belongs to another tenant.

use windlass_model::event::RunPaused;
use windlass_model::payload::Blob;
use windlass_model::{EventSeq, PauseReason};

use super::Subject;
use super::approvals::opening;
use super::subject::*;
use super::workflows::workflow;
use crate::{ApprovalFilter, NewRun, NewWorkflow, RunFilter, WorkflowFilter, WriteError};

/// Run 1 is ours, run 2 is theirs.
async fn two_tenants(subject: &Subject) {
    subject.create(1).await;
    let version = subject.definition_of(OTHER_TENANT, "release-notes").await;
    let theirs = NewRun { tenant: OTHER_TENANT, ..new_run(2, version) };
    subject.store.create_run(theirs).await.unwrap();
}

pub async fn runs_belong_to_their_tenant(subject: &Subject) {
    two_tenants(subject).await;
    let store = &subject.store;
    for (tenant, mine, theirs) in [(TENANT, 1, 2), (OTHER_TENANT, 2, 1)] {
        assert_eq!(store.get_run(tenant, run_id(mine)).await.unwrap().unwrap().tenant, tenant);
        assert!(store.load_run(tenant, run_id(mine)).await.unwrap().is_some());
        assert!(store.read_events(tenant, run_id(mine), EventSeq(0), 10).await.unwrap().is_some());
        assert_eq!(store.get_run(tenant, run_id(theirs)).await.unwrap(), None);
        assert!(store.load_run(tenant, run_id(theirs)).await.unwrap().is_none());
        assert_eq!(store.read_events(tenant, run_id(theirs), EventSeq(0), 10).await.unwrap(), None);
        for filter in [
            RunFilter::default(),
            RunFilter { workflow: Some("release-notes".into()), ..RunFilter::default() },
            RunFilter { text: Some("release".into()), ..RunFilter::default() },
            RunFilter { statuses: windlass_model::RunStatus::ALL.to_vec(), ..RunFilter::default() },
        ] {
            let rows = store.list_runs(tenant, &filter, None, 10).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [run_id(mine)], "{filter:?}");
        }
    }
    // A label of the same text leads nowhere else either.
    for (n, tenant) in [(3, TENANT), (4, OTHER_TENANT)] {
        let version = subject.definition_of(tenant, "release-notes").await;
        let mut run = NewRun { tenant, ..new_run(n, version) };
        run.labels.insert("team".into(), "a".into());
        store.create_run(run).await.unwrap();
        let filter = RunFilter { labels: vec![("team".into(), "a".into())], ..RunFilter::default() };
        let rows = store.list_runs(tenant, &filter, None, 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [run_id(n)]);
    }
}

pub async fn nobody_writes_to_a_run_of_another_tenant(subject: &Subject) {
    two_tenants(subject).await;
    let theirs = subject.store.get_run(OTHER_TENANT, run_id(2)).await.unwrap().unwrap();
    let mut write =
        Hand::door(&theirs).write(vec![to_run(RunPaused { reason: PauseReason::Requested, message: None })]);
    write.tenant = TENANT;
    let door = subject.store.write_run(write).await;
    assert!(matches!(door, Err(WriteError::Moved)), "{door:?}");

    subject.renew(1).await;
    let held = subject.claim(2, 1).await.expect("engines serve every tenant").row;
    let mut write = Hand::engine(&held).write(vec![started(0, 1)]);
    write.tenant = TENANT;
    let engine = subject.store.write_run(write).await;
    assert!(matches!(engine, Err(WriteError::Fenced)), "{engine:?}");
    assert_eq!(subject.store.get_run(OTHER_TENANT, run_id(2)).await.unwrap(), Some(held));
}

pub async fn workflows_belong_to_their_tenant(subject: &Subject) {
    let store = &subject.store;
    store.put_workflow(workflow("ours", "1")).await.unwrap();
    store.put_workflow(NewWorkflow { tenant: OTHER_TENANT, ..workflow("theirs", "1") }).await.unwrap();
    store.put_workflow(workflow("both", "1")).await.unwrap();
    let both =
        store.put_workflow(NewWorkflow { tenant: OTHER_TENANT, ..workflow("both", "2") }).await.unwrap();
    assert!(both.created);
    assert_eq!(store.get_version(TENANT, "both", None).await.unwrap().unwrap().spec, "1");
    assert_eq!(store.get_version(OTHER_TENANT, "both", None).await.unwrap().unwrap().spec, "2");

    assert_eq!(store.get_workflow(TENANT, "theirs").await.unwrap(), None);
    assert_eq!(store.list_versions(TENANT, "theirs", None, 10).await.unwrap(), None);
    assert_eq!(store.get_version(TENANT, "theirs", None).await.unwrap(), None);
    assert!(!store.delete_workflow(TENANT, "theirs", None).await.unwrap());
    let names = |rows: Vec<crate::WorkflowRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    let filter = WorkflowFilter { tag: Some("docs".into()), text: Some("t".into()) };
    assert_eq!(names(store.list_workflows(TENANT, &filter, None, 10).await.unwrap()), ["both"]);
    assert_eq!(
        names(store.list_workflows(OTHER_TENANT, &WorkflowFilter::default(), None, 10).await.unwrap()),
        ["both", "theirs"]
    );
    let (mine, same) = (definition("inline", "1"), definition("inline", "1"));
    let (mine, same) =
        (store.put_inline(TENANT, mine).await.unwrap(), store.put_inline(OTHER_TENANT, same).await.unwrap());
    assert_ne!(mine, same);
}

pub async fn replies_and_blobs_belong_to_their_tenant(subject: &Subject) {
    let version = subject.definition().await;
    let blob = Blob::new(b"ours".to_vec());
    let run = NewRun { blobs: vec![blob.clone()], remember: Some(remember("a")), ..new_run(1, version) };
    subject.store.create_run(run).await.unwrap();
    let store = &subject.store;
    assert!(store.get_blob(TENANT, &blob.digest).await.unwrap().is_some());
    assert_eq!(store.get_blob(OTHER_TENANT, &blob.digest).await.unwrap(), None);
    assert!(store.find_reply(TENANT, &remember("a").key).await.unwrap().is_some());
    assert_eq!(store.find_reply(OTHER_TENANT, &remember("a").key).await.unwrap(), None);
}

pub async fn approvals_belong_to_their_tenant(subject: &Subject) {
    two_tenants(subject).await;
    subject.renew(1).await;
    for n in [1, 2] {
        let hand = Hand::engine(&subject.claim(n, 1).await.unwrap().row);
        subject.store.write_run(opening(&hand, "gate", 1, None)).await.unwrap();
    }
    for (tenant, mine, theirs) in [(TENANT, 1, 2), (OTHER_TENANT, 2, 1)] {
        for decided in [None, Some(false)] {
            let all = ApprovalFilter { decided, run_id: None };
            let rows = subject.store.list_approvals(tenant, &all, None, 10).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.run_id).collect::<Vec<_>>(), [run_id(mine)]);
            let foreign = ApprovalFilter { decided, run_id: Some(run_id(theirs)) };
            assert_eq!(subject.store.list_approvals(tenant, &foreign, None, 10).await.unwrap(), []);
        }
    }
}
