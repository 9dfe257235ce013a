//! What a doctor finds.

use serde_json::json;
use windlass_model::event::{RunRepaired, StepSucceeded};
use windlass_model::payload::Blob;
use windlass_model::{Actor, EventSeq, Payload, RunStatus, RunVersion, Timestamp};

use crate::{Account, ApprovalFilter, ApprovalRow, Damage, Mend, Projection, Rebuild, WriteError};

use super::Subject;
use super::approvals::opening;
use super::subject::*;

pub async fn a_store_that_was_used_as_it_should_has_no_damage(subject: &Subject) {
    subject.create(1).await;
    let mut hand = subject.held(2, 1).await;
    subject.write(&mut hand, vec![started(0, 1)]).await;
    let output = Payload::new(json!("x".repeat(100_000)));
    let blob = output.new_blob();
    let mut write = hand.write(vec![to_step(0, 1, StepSucceeded { output, artifacts: Vec::new() })]);
    write.blobs = vec![blob.expect("too large to stay inline")];
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);
    hand.projection.status = RunStatus::Completed;
    subject.write(&mut hand, vec![completed()]).await;
    let waiting = subject.held(3, 1).await;
    subject.store.write_run(opening(&waiting, "gate", 1, None)).await.unwrap();
    assert_eq!(subject.store.find_damage(10).await.unwrap(), []);
}

pub async fn runs_are_scanned_by_id(subject: &Subject) {
    for n in [3, 1, 2] {
        subject.create(n).await;
    }
    let theirs = subject.definition_of(OTHER_TENANT, "theirs").await;
    let foreign = crate::NewRun { tenant: OTHER_TENANT, ..new_run(4, theirs) };
    subject.store.create_run(foreign).await.unwrap();
    let scan = async |after, limit| -> Vec<_> {
        let rows = subject.store.scan_runs(after, limit).await.unwrap();
        rows.into_iter().map(|(_, id)| id).collect()
    };
    assert_eq!(scan(None, 3).await, [1, 2, 3].map(run_id));
    assert_eq!(scan(Some(run_id(3)), 3).await, [run_id(4)]);
    assert_eq!(scan(Some(run_id(4)), 3).await, []);
    assert_eq!(subject.store.scan_runs(Some(run_id(3)), 1).await.unwrap(), [(OTHER_TENANT, run_id(4))]);
}

pub async fn references_to_nothing_and_blobs_of_nobody_are_damage(subject: &Subject) {
    let output = Payload::new(json!("x".repeat(100_000)));
    let lost = output.new_blob().expect("too large to stay inline");
    let orphan = Blob::new(b"orphan".to_vec());
    let hand = subject.held(1, 1).await;
    let mut write = hand.write(vec![to_step(0, 1, StepSucceeded { output, artifacts: Vec::new() })]);
    write.blobs = vec![orphan.clone()];
    subject.store.write_run(write).await.unwrap();
    let damage = subject.store.find_damage(10).await.unwrap();
    let found: Vec<_> = damage.iter().map(|it| (it.kind.as_str(), it.subject.clone())).collect();
    assert_eq!(found, [("dangling_blob", run_id(1).to_string()), ("orphan_blob", orphan.digest.to_string())]);
    assert!(damage[0].detail.contains(&lost.digest.0), "{}", damage[0].detail);
    assert_eq!(subject.store.find_damage(1).await.unwrap().len(), 1);
}

fn account(damage: Damage) -> Account {
    Account { actor: Actor::system("doctor"), damage }
}

pub async fn what_is_found_is_mended_once_and_on_record(subject: &Subject) {
    let orphan = Blob::new(b"orphan".to_vec());
    let output = Payload::new(json!("x".repeat(100_000)));
    let needed = output.new_blob().expect("too large to stay inline");
    let mut hand = subject.held(1, 1).await;
    let mut write = hand.write(vec![to_step(0, 1, StepSucceeded { output, artifacts: Vec::new() })]);
    write.blobs = vec![orphan.clone(), needed.clone()];
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);
    let found = subject.store.find_damage(10).await.unwrap().remove(0);
    let mend = found.mend.clone().expect("content of nobody can go");
    assert_eq!(mend, Mend::RemoveBlob { tenant: TENANT, digest: orphan.digest.clone() });

    subject.store.mend(mend.clone(), account(found.clone())).await.unwrap();

    assert_eq!(subject.store.find_damage(10).await.unwrap(), []);
    let again = subject.store.mend(mend, account(found.clone())).await;
    assert!(matches!(again, Err(WriteError::Moved)), "{again:?}");
    let of_somebody = Mend::RemoveBlob { tenant: TENANT, digest: needed.digest.clone() };
    let refused = subject.store.mend(of_somebody, account(found.clone())).await;
    assert!(matches!(refused, Err(WriteError::Moved)), "{refused:?}");
    let is_there = Mend::RemoveOrphans { run_id: run_id(1) };
    let refused = subject.store.mend(is_there, account(found)).await;
    assert!(matches!(refused, Err(WriteError::Moved)), "{refused:?}");
    let kept = subject.store.list_repairs(10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].kind.as_str(), kept[0].actor.as_str()), ("orphan_blob", "system:doctor"));
}

/// What a doctor would write of a run that waits and has one gate.
fn rebuild(hand: &Hand, next_seq: u32) -> Rebuild {
    let waits = Projection { wake_at: Some(Timestamp(9_000_000)), ..projection(RunStatus::Waiting) };
    let body = RunRepaired { found: vec!["row_differs".into()] };
    let event = hand.write(vec![to_run(body)]).events.remove(0);
    Rebuild {
        run_id: hand.row.id,
        tenant: TENANT,
        version: hand.row.version,
        next_seq: EventSeq(next_seq),
        epoch: hand.row.epoch,
        parent: None,
        projection: waits,
        approvals: vec![ApprovalRow {
            run_id: hand.row.id,
            workflow: hand.row.workflow.clone(),
            node: "gate".into(),
            attempt: 1,
            seq: EventSeq(1),
            requested_at: Timestamp(5),
            expires_at: None,
            decided_at: None,
            decision: None,
            decided_by: None,
        }],
        untold: Vec::new(),
        event: Some(event),
    }
}

pub async fn a_run_is_written_anew_if_it_is_as_it_was_read(subject: &Subject) {
    let hand = Hand::door(&subject.create(1).await);
    let found = account(Damage::new("row_differs", run_id(1), "status is wrong"));
    let stale = Rebuild { version: RunVersion(7), ..rebuild(&hand, 3) };
    let moved = subject.store.rebuild_run(stale, vec![found.clone()]).await;
    assert!(matches!(moved, Err(WriteError::Moved)), "{moved:?}");
    assert_eq!(subject.row(1).await, hand.row);

    subject.store.rebuild_run(rebuild(&hand, 3), vec![found]).await.unwrap();

    let record = subject.record(1).await;
    assert_eq!((record.row.status, record.row.wake_at), (RunStatus::Waiting, Some(Timestamp(9_000_000))));
    assert_eq!((record.row.next_seq, record.events.len()), (EventSeq(3), 2));
    assert_eq!(record.events[1].body.name(), "run.repaired");
    assert_ne!(record.row.version, hand.row.version, "whoever has read it before has to read again");
    let filter = ApprovalFilter { decided: Some(false), run_id: Some(run_id(1)) };
    assert_eq!(subject.store.list_approvals(TENANT, &filter, None, 10).await.unwrap().len(), 1);
    assert_eq!(subject.store.list_repairs(10).await.unwrap().len(), 1);
}
