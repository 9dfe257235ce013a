//! Turns: what follows when something may not happen yet.

use std::time::Duration;

use serde_json::json;
use windlass_model::event::RunCreated;
use windlass_model::rate_limit::{LATE_MAX, Turn};
use windlass_model::state::WaitReason;
use windlass_model::{Command, Input, Outcome, Plan, RunStatus, StepStatus, Timestamp};

use crate::common::{Run, plan};

const SECOND: Duration = Duration::from_secs(1);

fn limited() -> Plan {
    plan("{version: 1, name: d, type: steps, rate_limit: {runs: 1, per: 1s}, steps: [{id: a, type: work}]}")
}

fn defer(run: &mut Run<'_>, id: &str, wait: Duration) {
    let until = run.now.plus(wait);
    run.outcome(id, Outcome::Deferred { until });
}

#[test]
fn a_deferred_attempt_is_begun_again_with_its_number_and_its_key_when_its_turn_comes() {
    let plan = limited();
    let mut run = Run::new(&plan);
    run.take();
    let a = run.node("a");
    let key = run.state.idempotency_key(&plan, a);
    defer(&mut run, "a", 5 * SECOND);
    let step = run.state.step(a);
    assert_eq!((step.status, step.failures), (StepStatus::Waiting, 0));
    assert_eq!(step.wait.as_ref().map(|wait| &wait.on), Some(&WaitReason::RateLimit));
    assert_eq!(
        (run.state.status(false), run.state.wake_at()),
        (RunStatus::Waiting, Some(run.now.plus(5 * SECOND)))
    );
    run.pass(4 * SECOND);
    assert!(run.in_flight().is_empty());
    run.pass(SECOND);
    assert_eq!(run.in_flight(), ["a"]);
    let step = run.state.step(a);
    assert_eq!((step.attempt, step.turn_at), (1, Some(run.now)), "it comes with the turn that it took");
    assert_eq!(run.state.idempotency_key(&plan, a), key);
    run.succeed("a");
    assert_eq!(run.state.step(a).turn_at, None, "the next attempt takes one of its own");
    assert_eq!(run.state.status(true), RunStatus::Completed);
    run.check_fold();
}

#[test]
fn a_lost_attempt_that_has_to_wait_keeps_its_key() {
    let plan = plan("{version: 1, name: d, type: steps, steps: [{id: a, type: noop}]}");
    let mut run = Run::new(&plan);
    run.take();
    let a = run.node("a");
    let key = run.state.idempotency_key(&plan, a);
    run.take();
    assert_eq!((run.state.step(a).attempt, run.state.idempotency_key(&plan, a)), (2, key.clone()));
    defer(&mut run, "a", SECOND);
    run.pass(SECOND);
    assert_eq!((run.state.step(a).attempt, run.state.idempotency_key(&plan, a)), (2, key));
    run.check_fold();
}

#[test]
fn a_step_that_waits_for_its_turn_is_canceled_and_paused_like_any_other() {
    let plan = limited();
    let mut run = Run::new(&plan);
    run.take();
    defer(&mut run, "a", SECOND);
    run.command(Command::Pause).unwrap();
    run.pass(5 * SECOND);
    assert!(run.in_flight().is_empty());
    run.command(Command::Resume).unwrap();
    run.tick(Input::Advance);
    assert_eq!(run.in_flight(), ["a"]);
    defer(&mut run, "a", SECOND);
    run.command(Command::Cancel { reason: None }).unwrap();
    run.tick(Input::Advance);
    assert_eq!(run.state.status(false), RunStatus::Canceled);
    run.check_fold();
}

#[test]
fn a_run_asks_for_a_turn_before_anything_of_it_begins_and_starts_when_that_comes() {
    let plan = limited();
    let mut run = Run::new(&plan);
    assert!(run.state.asks_for_turn(&plan, run.now));
    let until = run.now.plus(5 * SECOND);
    run.tick(Input::Turn(Turn::At(until)));
    assert_eq!((run.state.status(false), run.state.wake_at()), (RunStatus::Waiting, Some(until)));
    assert!(!run.state.asks_for_turn(&plan, run.now));
    run.pass(5 * SECOND);
    assert!(!run.state.asks_for_turn(&plan, run.now), "it has one");
    assert_eq!(run.names().last().unwrap(), "step.started a");
    assert!(!run.state.asks_for_turn(&plan, run.now.plus(2 * LATE_MAX)), "it has begun");
    run.check_fold();
}

#[test]
fn a_run_that_comes_much_too_late_for_its_turn_asks_for_another() {
    let plan = limited();
    let mut run = Run::new(&plan);
    run.tick(Input::Turn(Turn::At(run.now.plus(SECOND))));
    let late = run.now.plus(SECOND + LATE_MAX + SECOND);
    assert!(run.state.asks_for_turn(&plan, late));
    run.now = late;
    run.tick(Input::Turn(Turn::At(late.plus(SECOND))));
    run.pass(SECOND);
    assert_eq!(run.in_flight(), ["a"]);
    run.check_fold();
}

#[test]
fn a_run_that_will_not_wait_fails_and_says_when_the_next_may_start() {
    let plan = limited();
    let mut run = Run::new(&plan);
    run.tick(Input::Turn(Turn::Refused { retry_after: SECOND }));
    let error = run.state.error.clone().unwrap();
    assert_eq!((error.kind.as_str(), error.details), ("rate.limited", Some(json!({"retry_after_ms": 1000}))));
    assert_eq!(run.state.status(false), RunStatus::Failed);
    run.check_fold();
}

#[test]
fn a_run_that_starts_later_takes_its_turn_then() {
    let plan = limited();
    let mut run =
        Run::created(&plan, RunCreated { start_at: Some(Timestamp(9_000_000)), ..RunCreated::default() });
    assert!(!run.state.asks_for_turn(&plan, run.now));
    run.now = Timestamp(9_000_000);
    assert!(run.state.asks_for_turn(&plan, run.now));
    let mut let_in = Run::created(&plan, RunCreated { turn_at: Some(run.now), ..RunCreated::default() });
    assert!(!let_in.state.asks_for_turn(&plan, run.now), "the door has taken one for it");
    let_in.take();
    assert_eq!(let_in.in_flight(), ["a"]);
}
