//! A run is written and read back.

use std::sync::Arc;

use serde_json::json;
use windlass_model::event::*;
use windlass_model::plan::WorkflowKind;
use windlass_model::{
    Actor, Digest, Epoch, EventSeq, PauseReason, Payload, Plan, Priority, RunState, RunStatus, RunVersion,
    StepError, Timestamp, VersionId,
};

use super::Subject;
use super::subject::*;
use crate::{RunWrite, SNAPSHOT_EVERY_EVENTS};

pub async fn a_run_is_read_back_as_it_was_written(subject: &Subject) {
    let version_id = subject.definition().await;
    let mut new = new_run(1, version_id);
    new.priority = Priority::High;
    new.labels.insert("team".into(), "größe \"quoted\" 'single' %_".into());
    new.labels.insert(String::new(), String::new());
    new.projection.wake_at = Some(Timestamp(77));
    subject.store.create_run(new.clone()).await.unwrap();

    let record = subject.record(1).await;
    let row = &record.row;
    assert_eq!((row.id, row.tenant, row.version_id), (run_id(1), TENANT, version_id));
    assert_eq!((row.workflow.as_str(), row.workflow_version), ("release-notes", None));
    assert_eq!((row.status, row.version, row.next_seq), (RunStatus::Queued, RunVersion(1), EventSeq(2)));
    assert_eq!((row.lease_owner, row.epoch, row.priority), (None, Epoch(0), Priority::High));
    assert_eq!((row.created_at, row.wake_at), (new.event.at, Some(Timestamp(77))));
    assert_eq!((row.started_at, row.ended_at, &row.error, row.paused_reason), (None, None, &None, None));
    assert!(row.last_activity_at > Timestamp(0) && row.last_activity_at <= subject.clock.now());
    assert_eq!(row.labels, new.labels);
    assert_eq!(record.events, [new.event]);
    assert_eq!(record.snapshot, None);
    assert_eq!(record.row, subject.row(1).await);
}

pub async fn a_run_needs_a_definition(subject: &Subject) {
    let nowhere = subject.store.create_run(new_run(1, VersionId(4711))).await;
    assert!(is_refused(&nowhere), "{nowhere:?}");
    let theirs = subject.definition_of(OTHER_TENANT, "theirs").await;
    let stolen = subject.store.create_run(new_run(1, theirs)).await;
    assert!(is_refused(&stolen), "{stolen:?}");
    assert_eq!(subject.store.get_run(TENANT, run_id(1)).await.unwrap(), None);
}

pub async fn the_id_of_a_run_is_used_once(subject: &Subject) {
    let first = subject.create(1).await;
    let mut second = new_run(1, first.version_id);
    second.labels.insert("second".into(), "yes".into());
    let result = subject.store.create_run(second).await;
    assert!(is_refused(&result), "{result:?}");
    assert_eq!(subject.row(1).await, first);
}

pub async fn the_first_event_of_a_run_has_seq_one(subject: &Subject) {
    let mut new = new_run(1, subject.definition().await);
    new.event.seq = EventSeq(2);
    let result = subject.store.create_run(new).await;
    assert!(is_refused(&result), "{result:?}");
    assert_eq!(subject.store.get_run(TENANT, run_id(1)).await.unwrap(), None);
}

pub async fn a_write_appends_events_and_brings_the_row_up_to_date(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    subject.clock.advance(TTL);
    let before = subject.row(1).await;
    subject.write(&mut hand, vec![started(0, 1)]).await;
    hand.projection.status = RunStatus::Paused;
    hand.projection.paused_reason = Some(PauseReason::StepFailed);
    hand.projection.wake_at = Some(Timestamp(123));
    subject.write(&mut hand, vec![failed(0, 1), to_step(0, 1, StepPaused {})]).await;

    let row = subject.row(1).await;
    assert_eq!(
        (row.version, row.next_seq),
        (RunVersion(before.version.0 + 2), EventSeq(before.next_seq.0 + 3))
    );
    assert_eq!((row.status, row.paused_reason), (RunStatus::Paused, Some(PauseReason::StepFailed)));
    assert_eq!((row.wake_at, row.started_at), (Some(Timestamp(123)), before.started_at));
    assert_eq!((row.lease_owner, row.epoch), (before.lease_owner, before.epoch));
    assert!(row.last_activity_at > before.last_activity_at);

    let mut door = Hand::door(&row);
    door.projection.status = RunStatus::Running;
    door.projection.paused_reason = None;
    door.projection.wake_at = None;
    subject.write(&mut door, vec![to_run(RunResumed {})]).await;
    let row = subject.row(1).await;
    assert_eq!((row.status, row.paused_reason, row.wake_at), (RunStatus::Running, None, None));
    let names: Vec<_> = subject.record(1).await.events.iter().map(|event| event.body.name()).collect();
    assert_eq!(
        names,
        ["run.created", "run.engine_taken", "step.started", "step.failed", "step.paused", "run.resumed"]
    );
}

pub async fn events_come_back_as_they_were_written(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let value = json!({"ünïcode": "line\nbreak \u{1f980} \"quotes\"", "n": [1, 2.5, -3, 18446744073709551615u64, null, true]});
    let mut write = hand.write(vec![
        to_step(65_535, 65_535, StepStarted { key_attempt: Some(3) }),
        Happened { item: Some(0), ..succeeded(0, 1) },
        Happened { item: Some(4_000_000_000), ..failed(0, 1) },
        to_step(7, 2, StepSucceeded { output: value.clone().into(), artifacts: Vec::new() }),
        Happened { attempt: None, ..to_step(3, 1, StepSkipped { reason: SkipReason::Need }) },
        to_run(SignalReceived { name: "paid".into(), payload: value.into() }),
        to_run(RunPaused { reason: PauseReason::Requested, message: Some(String::new()) }),
    ]);
    write.events[5].actor = Some(Actor::user("o'hara; drop table workflow_runs"));
    write.events[6].actor = Some(Actor::system("doctor"));
    write.events[6].epoch = None;
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);

    let read = subject.store.read_events(TENANT, run_id(1), EventSeq(2), 100).await.unwrap().unwrap();
    assert_eq!(read, write.events);
}

pub async fn events_are_read_in_pages(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    subject.write(&mut hand, (1..=8).map(|attempt| started(0, attempt)).collect()).await;
    let page = async |after, limit| -> Vec<u32> {
        let events = subject.store.read_events(TENANT, run_id(1), EventSeq(after), limit).await.unwrap();
        events.expect("the run is there").iter().map(|event| event.seq.0).collect()
    };
    assert_eq!(page(0, 4).await, [1, 2, 3, 4]);
    assert_eq!(page(4, 4).await, [5, 6, 7, 8]);
    assert_eq!(page(8, 4).await, [9, 10]);
    assert!(page(10, 4).await.is_empty());
    assert!(page(u32::MAX, 4).await.is_empty());
    assert!(page(0, 0).await.is_empty());
}

pub async fn what_does_not_exist_is_none(subject: &Subject) {
    let store = &subject.store;
    assert_eq!(store.get_run(TENANT, run_id(9)).await.unwrap(), None);
    assert!(store.load_run(TENANT, run_id(9)).await.unwrap().is_none());
    assert_eq!(store.read_events(TENANT, run_id(9), EventSeq(0), 10).await.unwrap(), None);
    assert!(subject.claim(9, 1).await.is_none());
    assert_eq!(store.get_workflow(TENANT, "nothing").await.unwrap(), None);
    assert_eq!(store.get_version(TENANT, "nothing", None).await.unwrap(), None);
    assert_eq!(store.list_versions(TENANT, "nothing", None, 10).await.unwrap(), None);
    assert_eq!(store.get_definition(VersionId(9)).await.unwrap(), None);
    assert_eq!(store.find_reply(TENANT, &remember("nothing").key).await.unwrap(), None);
    assert_eq!(store.get_blob(TENANT, &Digest::of(b"nothing")).await.unwrap(), None);
    assert!(store.list_runs(TENANT, &Default::default(), None, 10).await.unwrap().is_empty());
}

pub async fn a_snapshot_replaces_the_older_one_and_the_tail_follows_it(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    for (attempt, keeps) in [(1, true), (2, false), (3, true), (4, false), (5, false)] {
        let mut write = hand.write(vec![started(0, attempt)]);
        write.snapshot = keeps.then(|| Arc::new(state(&write)));
        subject.store.write_run(write.clone()).await.unwrap();
        hand.wrote(&write);
    }
    let record = subject.record(1).await;
    // created, taken, then attempts 1 to 5 as events 3 to 7.
    assert_eq!(record.snapshot.as_ref().unwrap().last_seq, EventSeq(5));
    assert_eq!(record.snapshot.unwrap().requester, Actor::user("ada"));
    assert_eq!(record.events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [6, 7]);
}

pub async fn a_long_run_is_read_from_its_snapshot(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    for n in 0..2 * SNAPSHOT_EVERY_EVENTS {
        let mut write = hand.write(vec![started(0, n as u16 + 1)]);
        let last = write.events[0].seq.0;
        write.snapshot = last.is_multiple_of(SNAPSHOT_EVERY_EVENTS).then(|| Arc::new(state(&write)));
        subject.store.write_run(write.clone()).await.unwrap();
        hand.wrote(&write);
    }
    let record = subject.record(1).await;
    assert_eq!(record.snapshot.unwrap().last_seq, EventSeq(2 * SNAPSHOT_EVERY_EVENTS));
    assert_eq!(record.events.len(), 2);
}

pub async fn the_end_of_a_run_lets_it_go(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    hand.projection.status = RunStatus::Failed;
    hand.projection.ended_at = Some(Timestamp(55));
    hand.projection.error = Some("http.503".into());
    let error = StepError::new("http.503", "away");
    // Even when the engine does not say that it lets go.
    subject.write(&mut hand, vec![to_run(RunFailed { error, compensation: None })]).await;
    let row = subject.row(1).await;
    assert_eq!((row.status, row.lease_owner), (RunStatus::Failed, None));
    assert_eq!((row.ended_at, row.error.as_deref()), (Some(Timestamp(55)), Some("http.503")));
}

/// A fold as of the last event of a write. The port does not look into it.
pub(super) fn state(write: &RunWrite) -> RunState {
    let plan = Plan {
        name: "release-notes".into(),
        kind: WorkflowKind::Steps,
        hash: Digest::of(b""),
        nodes: Vec::new(),
        by_id: Default::default(),
        groups: Vec::new(),
        inputs: None,
        outputs: None,
        concurrency: None,
        rate_limit: None,
        compensation: Default::default(),
        timeout: None,
        machine: None,
    };
    let created = new_run(1, VersionId(1)).event;
    let mut state = RunState::created(&plan, write.run_id, &created).expect("it begins with run.created");
    state.inputs = Payload::from(json!({"kept": true}));
    state.last_seq = write.events.last().expect("a write with events").seq;
    state
}
