//! The inbox of gates.

use std::time::Duration;

use windlass_model::event::ApprovalRequested;
use windlass_model::{Attempt, Digest, EventSeq, Payload, RunStatus, Timestamp};

use super::Subject;
use super::subject::*;
use crate::{ApprovalChange, ApprovalCursor, ApprovalDecision, ApprovalFilter, ApprovalRow, RunWrite};

/// A write that opens the gate of `node`.
pub(super) fn opening(hand: &Hand, node: &str, attempt: Attempt, expires_at: Option<Timestamp>) -> RunWrite {
    let body = ApprovalRequested { show: Payload::null(), digest: Digest::of(b""), expires_at, rule: None };
    let mut write = hand.write(vec![to_step(0, attempt, body)]);
    let seq = write.events[0].seq;
    write.approvals = vec![ApprovalChange::Opened { node: node.into(), attempt, seq, expires_at }];
    write
}

async fn open(subject: &Subject, hand: &mut Hand, node: &str, attempt: Attempt) -> EventSeq {
    let write = opening(hand, node, attempt, None);
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);
    write.events[0].seq
}

async fn close(subject: &Subject, hand: &mut Hand, change: ApprovalChange) {
    let mut write = hand.write(vec![started(9, hand.row.next_seq.0 as u16)]);
    write.approvals = vec![change];
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);
}

fn granted(node: &str, attempt: Attempt) -> ApprovalChange {
    let by = Some("user:ada".to_owned());
    ApprovalChange::Closed { node: node.into(), attempt, decision: ApprovalDecision::Granted, by }
}

async fn all(subject: &Subject) -> Vec<ApprovalRow> {
    subject.store.list_approvals(TENANT, &ApprovalFilter::default(), None, 100).await.unwrap()
}

pub async fn a_gate_opens_and_closes(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    let expires_at = Some(Timestamp(99));
    let write = opening(&hand, "review", 3, expires_at);
    subject.store.write_run(write.clone()).await.unwrap();
    hand.wrote(&write);
    let requested = &write.events[0];
    let open = ApprovalRow {
        run_id: run_id(1),
        workflow: "release-notes".into(),
        node: "review".into(),
        attempt: 3,
        seq: requested.seq,
        requested_at: requested.at,
        expires_at,
        decided_at: None,
        decision: None,
        decided_by: None,
    };
    assert_eq!(all(subject).await, std::slice::from_ref(&open));

    let before = subject.clock.now();
    close(subject, &mut hand, granted("review", 3)).await;
    let rows = all(subject).await;
    let decided_at = rows[0].decided_at;
    assert!(decided_at >= Some(before));
    let (decision, decided_by) = (Some(ApprovalDecision::Granted), Some("user:ada".into()));
    assert_eq!(rows, [ApprovalRow { decided_at, decision, decided_by, ..open }]);
    // What was decided stays decided.
    let by = Some("user:bob".into());
    let rejected = ApprovalChange::Closed {
        node: "review".into(),
        attempt: 3,
        decision: ApprovalDecision::Rejected,
        by,
    };
    close(subject, &mut hand, rejected).await;
    close(subject, &mut hand, ApprovalChange::ClosedAll).await;
    assert_eq!(all(subject).await, rows);
}

pub async fn gates_are_listed_oldest_request_first(subject: &Subject) {
    // Run 2 asks before run 1; both ask twice at one time, as parallel branches do.
    for (n, at) in [(2, 10), (1, 20), (3, 20)] {
        let hand = subject.held(n, 1).await;
        let (mut write, second) = (opening(&hand, "a", 1, None), opening(&hand, "b", 1, None));
        let mut event = second.events[0].clone();
        event.seq = event.seq.next();
        write.events.push(event);
        write.approvals.push(ApprovalChange::Opened {
            node: "b".into(),
            attempt: 1,
            seq: write.events[1].seq,
            expires_at: None,
        });
        for event in &mut write.events {
            event.at = Timestamp(at);
        }
        subject.store.write_run(write).await.unwrap();
    }
    let expected: Vec<_> = [2, 1, 3].into_iter().flat_map(|n| [(run_id(n), "a"), (run_id(n), "b")]).collect();
    for filter in [ApprovalFilter::default(), ApprovalFilter { decided: Some(false), run_id: None }] {
        for limit in [1, 2, 4, 6] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = subject.store.list_approvals(TENANT, &filter, after, limit).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(ApprovalCursor {
                    requested_at: last.requested_at,
                    run_id: last.run_id,
                    seq: last.seq,
                });
                assert!(page.len() <= limit as usize);
                seen.extend(page.into_iter().map(|row| (row.run_id, row.node)));
            }
            let seen: Vec<_> = seen.iter().map(|(run_id, node)| (*run_id, node.as_str())).collect();
            assert_eq!(seen, expected, "in pages of {limit}");
        }
    }
}

pub async fn a_gate_that_is_asked_anew_withdraws_the_older_request(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    open(subject, &mut hand, "review", 1).await;
    open(subject, &mut hand, "other", 1).await;
    open(subject, &mut hand, "review", 2).await;
    // The same attempt may be asked about again after it was decided.
    close(subject, &mut hand, granted("review", 2)).await;
    open(subject, &mut hand, "review", 2).await;
    let states: Vec<_> =
        all(subject).await.into_iter().map(|row| (row.node, row.attempt, row.decision)).collect();
    let expected = [
        ("review".to_owned(), 1, Some(ApprovalDecision::Withdrawn)),
        ("other".to_owned(), 1, None),
        ("review".to_owned(), 2, Some(ApprovalDecision::Granted)),
        ("review".to_owned(), 2, None),
    ];
    assert_eq!(states, expected);
}

pub async fn the_end_of_a_run_withdraws_what_is_open(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    open(subject, &mut hand, "a", 1).await;
    open(subject, &mut hand, "b", 1).await;
    close(subject, &mut hand, granted("a", 1)).await;
    let mut bystander = subject.held(2, 1).await;
    open(subject, &mut bystander, "a", 1).await;

    hand.projection.status = RunStatus::Canceled;
    let mut write = hand.write(vec![completed()]);
    write.approvals = vec![ApprovalChange::ClosedAll];
    subject.store.write_run(write).await.unwrap();
    let of = async |n| {
        let filter = ApprovalFilter { run_id: Some(run_id(n)), decided: None };
        let rows = subject.store.list_approvals(TENANT, &filter, None, 10).await.unwrap();
        rows.into_iter().map(|row| (row.decision, row.decided_by)).collect::<Vec<_>>()
    };
    let granted = (Some(ApprovalDecision::Granted), Some("user:ada".to_owned()));
    assert_eq!(of(1).await, [granted, (Some(ApprovalDecision::Withdrawn), None)]);
    assert_eq!(of(2).await, [(None, None)]);
}

pub async fn a_decision_closes_its_own_attempt_only(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    open(subject, &mut hand, "review", 2).await;
    close(subject, &mut hand, granted("review", 1)).await;
    close(subject, &mut hand, granted("other", 2)).await;
    assert_eq!(all(subject).await[0].decision, None);
    let expired = ApprovalChange::Closed {
        node: "review".into(),
        attempt: 2,
        decision: ApprovalDecision::Expired,
        by: None,
    };
    close(subject, &mut hand, expired).await;
    let row = all(subject).await.remove(0);
    assert_eq!((row.decision, row.decided_by), (Some(ApprovalDecision::Expired), None));
}

pub async fn of_decisions_at_once_the_one_that_was_written_closes_the_gate(subject: &Subject) {
    let mut tasks = Vec::new();
    for n in 1..=20 {
        let mut hand = subject.held(n, 1).await;
        open(subject, &mut hand, "review", 1).await;
        open(subject, &mut hand, "other", 1).await;
        // Those before and after it have not seen the run as it is.
        for (by, is_late) in [("ada", true), ("bob", false), ("cleo", true)] {
            let mut write = hand.write(vec![started(9, 1)]);
            write.version.0 += u32::from(is_late);
            let (decision, by) = (ApprovalDecision::Rejected, Some(by.to_owned()));
            write.approvals =
                vec![ApprovalChange::Closed { node: "review".into(), attempt: 1, decision, by }];
            let store = subject.store.clone();
            tasks.push(tokio::spawn(async move { (is_late, store.write_run(write).await) }));
        }
    }
    for task in tasks {
        let (is_late, written) = task.await.unwrap();
        assert_eq!(written.is_err(), is_late, "{written:?}");
    }
    for n in 1..=20 {
        let filter = ApprovalFilter { run_id: Some(run_id(n)), decided: None };
        let rows = subject.store.list_approvals(TENANT, &filter, None, 10).await.unwrap();
        let deciders: Vec<_> = rows.iter().map(|row| row.decided_by.as_deref()).collect();
        assert_eq!(deciders, [Some("bob"), None]);
    }
}

pub async fn what_was_decided_as_the_run_ended_is_not_withdrawn(subject: &Subject) {
    let mut hand = subject.held(1, 1).await;
    open(subject, &mut hand, "review", 1).await;
    open(subject, &mut hand, "other", 1).await;
    hand.projection.status = RunStatus::Completed;
    let mut write = hand.write(vec![completed()]);
    write.approvals = vec![granted("review", 1), ApprovalChange::ClosedAll];
    subject.store.write_run(write).await.unwrap();
    let decisions: Vec<_> = all(subject).await.into_iter().map(|row| row.decision).collect();
    assert_eq!(decisions, [Some(ApprovalDecision::Granted), Some(ApprovalDecision::Withdrawn)]);
}

pub async fn gates_are_found_by_run_and_state(subject: &Subject) {
    for n in 1..=2 {
        let mut hand = subject.held(n, 1).await;
        open(subject, &mut hand, "a", 1).await;
        subject.clock.advance(Duration::from_micros(1));
        open(subject, &mut hand, "b", 1).await;
        close(subject, &mut hand, granted("a", 1)).await;
    }
    let found = async |decided, n: Option<u32>| -> Vec<(windlass_model::RunId, String)> {
        let filter = ApprovalFilter { decided, run_id: n.map(run_id) };
        let rows = subject.store.list_approvals(TENANT, &filter, None, 10).await.unwrap();
        rows.into_iter().map(|row| (row.run_id, row.node)).collect()
    };
    let row = |n, node: &str| (run_id(n), node.to_owned());
    assert_eq!(found(Some(false), None).await, [row(1, "b"), row(2, "b")]);
    assert_eq!(found(Some(true), None).await, [row(1, "a"), row(2, "a")]);
    assert_eq!(found(None, Some(2)).await, [row(2, "a"), row(2, "b")]);
    assert_eq!(found(Some(true), Some(2)).await, [row(2, "a")]);
    assert_eq!(found(Some(false), Some(2)).await, [row(2, "b")]);
    assert!(found(None, Some(9)).await.is_empty());
}
