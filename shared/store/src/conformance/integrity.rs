//! What a doctor finds.

use serde_json::json;
use windlass_model::event::StepSucceeded;
use windlass_model::payload::Blob;
use windlass_model::{Payload, RunStatus};

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
        rows.into_iter().map(|row| row.id).collect()
    };
    assert_eq!(scan(None, 3).await, [1, 2, 3].map(run_id));
    assert_eq!(scan(Some(run_id(3)), 3).await, [run_id(4)]);
    assert_eq!(scan(Some(run_id(4)), 3).await, []);
    assert_eq!(subject.store.scan_runs(None, 10).await.unwrap()[0], subject.row(1).await);
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
