//! Circuit breakers that all workers share.

use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::Timestamp;
use windlass_model::callee::CalleeKind;
use windlass_model::circuit::{Admission, CircuitKey, CircuitSpec, CircuitState, CircuitStep, Guarded};

use super::Subject;
use super::subject::*;

const COOL_DOWN: Duration = Duration::from_secs(60);
const ASK: CircuitStep = CircuitStep::Ask { probe_for: COOL_DOWN };

fn key(name: &str) -> CircuitKey {
    CircuitKey { tenant: TENANT, kind: Guarded::Calls(CalleeKind::Tool), name: name.into() }
}

async fn fail(subject: &Subject, key: CircuitKey, times: u32, tried_until: Option<Timestamp>) {
    let window = Duration::from_secs(600);
    let spec = CircuitSpec { failures: 2, window, cool_down: COOL_DOWN, errors: Vec::new() };
    for _ in 0..times {
        let failed = CircuitStep::Failed { spec: spec.clone(), tried_until };
        subject.store.step_circuit(key.clone(), failed).await.unwrap();
    }
}

/// Until when one may try.
async fn try_it(subject: &Subject, key: CircuitKey) -> Timestamp {
    match subject.store.step_circuit(key, ASK).await {
        Ok(Admission::Probe { until }) => until,
        other => panic!("one may try: {other:?}"),
    }
}

async fn state(subject: &Subject, key: &CircuitKey) -> Option<CircuitState> {
    let all = subject.store.list_circuits(key.tenant, None, 100).await.unwrap();
    all.into_iter().find(|(other, _)| other == key).map(|(_, circuit)| circuit.state)
}

pub async fn what_never_failed_passes_and_leaves_nothing(subject: &Subject) {
    let store = &subject.store;
    assert_eq!(store.look_at_circuit(&key("a")).await.unwrap(), Admission::Pass);
    assert_eq!(store.step_circuit(key("a"), ASK).await.unwrap(), Admission::Pass);
    assert_eq!(store.count_open_circuits().await.unwrap(), 0);
}

pub async fn failures_of_all_workers_open_one_circuit(subject: &Subject) {
    let store = &subject.store;
    fail(subject, key("a"), 1, None).await;
    assert_eq!(store.look_at_circuit(&key("a")).await.unwrap(), Admission::Pass);
    fail(subject, key("a"), 1, None).await;
    for admission in [store.look_at_circuit(&key("a")).await, store.step_circuit(key("a"), ASK).await] {
        assert!(matches!(admission, Ok(Admission::Refused { retry_after }) if retry_after <= COOL_DOWN));
    }
    assert_eq!(store.look_at_circuit(&key("b")).await.unwrap(), Admission::Pass);
    assert_eq!(store.count_open_circuits().await.unwrap(), 1);
}

pub async fn of_many_who_ask_to_try_one_may(subject: &Subject) {
    fail(subject, key("a"), 2, None).await;
    subject.clock.advance(COOL_DOWN + Duration::from_secs(1));
    assert!(matches!(subject.store.look_at_circuit(&key("a")).await, Ok(Admission::Probe { .. })));
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = subject.store.clone();
        tasks.spawn(async move { store.step_circuit(key("a"), ASK).await.unwrap() });
    }
    let admissions = tasks.join_all().await;
    assert_eq!(
        admissions.iter().filter(|it| matches!(it, Admission::Probe { .. })).count(),
        1,
        "{admissions:?}"
    );
    assert_eq!(state(subject, &key("a")).await, Some(CircuitState::HalfOpen));
}

pub async fn a_try_closes_or_opens_it(subject: &Subject) {
    let store = &subject.store;
    for name in ["good", "bad"] {
        fail(subject, key(name), 2, None).await;
    }
    subject.clock.advance(COOL_DOWN + Duration::from_secs(1));
    try_it(subject, key("good")).await;
    let until = try_it(subject, key("bad")).await;
    store.step_circuit(key("good"), CircuitStep::Healed).await.unwrap();
    fail(subject, key("bad"), 1, Some(until)).await;
    assert_eq!(store.look_at_circuit(&key("good")).await.unwrap(), Admission::Pass);
    assert_eq!(state(subject, &key("good")).await, Some(CircuitState::Closed));
    assert!(matches!(store.look_at_circuit(&key("bad")).await, Ok(Admission::Refused { .. })));
}

pub async fn a_try_that_is_called_off_lets_the_next_one_try(subject: &Subject) {
    let store = &subject.store;
    fail(subject, key("a"), 2, None).await;
    subject.clock.advance(COOL_DOWN + Duration::from_secs(1));
    let until = try_it(subject, key("a")).await;
    assert!(matches!(store.step_circuit(key("a"), ASK).await, Ok(Admission::Refused { .. })));
    store.step_circuit(key("a"), CircuitStep::GaveUp { until }).await.unwrap();
    assert_eq!(state(subject, &key("a")).await, Some(CircuitState::Open));
    assert!(matches!(store.look_at_circuit(&key("a")).await, Ok(Admission::Probe { .. })));
    subject.clock.advance(Duration::from_secs(1));
    let next = store.step_circuit(key("a"), ASK).await.unwrap();
    assert!(matches!(next, Admission::Probe { until: other } if other != until), "{next:?}");
    store.step_circuit(key("a"), CircuitStep::GaveUp { until }).await.unwrap();
    assert!(matches!(store.look_at_circuit(&key("a")).await, Ok(Admission::Refused { .. })));
}

pub async fn a_try_that_fails_after_its_turn_leaves_the_next_one_alone(subject: &Subject) {
    let store = &subject.store;
    fail(subject, key("a"), 2, None).await;
    subject.clock.advance(COOL_DOWN + Duration::from_secs(1));
    let first = try_it(subject, key("a")).await;
    subject.clock.advance(COOL_DOWN + Duration::from_secs(1));
    let second = try_it(subject, key("a")).await;
    assert_ne!(first, second);
    fail(subject, key("a"), 1, Some(first)).await;
    assert_eq!(state(subject, &key("a")).await, Some(CircuitState::HalfOpen));
    store.step_circuit(key("a"), CircuitStep::Healed).await.unwrap();
    fail(subject, key("a"), 1, Some(first)).await;
    assert_eq!(store.look_at_circuit(&key("a")).await.unwrap(), Admission::Pass);
    assert_eq!(state(subject, &key("a")).await, Some(CircuitState::Closed));
}

pub async fn a_circuit_that_is_closed_and_long_quiet_is_forgotten(subject: &Subject) {
    let (store, age) = (&subject.store, Duration::from_secs(3_600));
    for (name, times) in [("failed once", 1), ("open", 2), ("healed", 2)] {
        fail(subject, key(name), times, None).await;
    }
    store.step_circuit(key("healed"), CircuitStep::Healed).await.unwrap();
    subject.clock.advance(age);
    fail(subject, key("fails again"), 1, None).await;
    assert_eq!(store.clean_up(age, 100).await.unwrap(), 0, "their windows ended ten minutes later");
    subject.clock.advance(Duration::from_secs(601));
    for forgotten in [1, 1, 0] {
        assert_eq!(store.clean_up(age, 1).await.unwrap(), forgotten);
    }
    let left = [state(subject, &key("open")).await, state(subject, &key("fails again")).await];
    assert_eq!(left, [Some(CircuitState::Open), Some(CircuitState::Closed)]);
    assert_eq!(store.list_circuits(TENANT, None, 100).await.unwrap().len(), 2);
}

pub async fn a_host_and_a_tool_of_one_name_have_a_circuit_each(subject: &Subject) {
    let store = &subject.store;
    let host = CircuitKey { kind: Guarded::Host, ..key("mail.example") };
    fail(subject, host.clone(), 2, None).await;
    assert!(matches!(store.look_at_circuit(&host).await, Ok(Admission::Refused { .. })));
    assert_eq!(store.look_at_circuit(&key("mail.example")).await.unwrap(), Admission::Pass);
    let theirs = CircuitKey { tenant: OTHER_TENANT, ..host.clone() };
    assert_eq!(store.look_at_circuit(&theirs).await.unwrap(), Admission::Pass);
    assert_eq!(state(subject, &host).await, Some(CircuitState::Open));
}

pub async fn circuits_are_listed_by_kind_and_name_and_belong_to_their_tenant(subject: &Subject) {
    let store = &subject.store;
    let (tool, agent) = (Guarded::Calls(CalleeKind::Tool), Guarded::Calls(CalleeKind::Agent));
    for (kind, name) in [(tool, "b"), (agent, "c"), (Guarded::Host, "d:8080"), (tool, "a")] {
        fail(subject, CircuitKey { kind, ..key(name) }, 1, None).await;
    }
    fail(subject, CircuitKey { tenant: OTHER_TENANT, ..key("theirs") }, 2, None).await;
    let names = async |after, limit| -> Vec<String> {
        let all = store.list_circuits(TENANT, after, limit).await.unwrap();
        all.into_iter().map(|(key, _)| key.name).collect()
    };
    assert_eq!(names(None, 100).await, ["c", "d:8080", "a", "b"]);
    assert_eq!(names(Some((agent, "c".into())), 1).await, ["d:8080"]);
    assert_eq!(names(Some((Guarded::Host, "d:8080".into())), 1).await, ["a"]);
    assert_eq!(store.look_at_circuit(&key("theirs")).await.unwrap(), Admission::Pass);
}
