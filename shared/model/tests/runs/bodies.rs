//! Bodies: branches side by side, what they give, and what the failure of one does to the others.

use serde_json::json;
use windlass_model::event::RecallReason;
use windlass_model::{ChildEnd, Command, EventBody, Payload, Plan, RunStatus, StepError, StepStatus};

use crate::common::{Run, plan};

const CHECKS: &str = "{version: 1, name: p, type: steps, steps: [{id: checks, type: parallel MORE, branches: \
     {legal: [{id: a, type: noop}], stock: [{id: a, type: noop}], risk: {nodes: {a: {type: noop}}}}}]}";

fn checks(more: &str) -> Plan {
    plan(&CHECKS.replace(" MORE", more))
}

fn completed(n: u64) -> ChildEnd {
    ChildEnd::Completed(Payload::from(json!(n)))
}

fn failed() -> ChildEnd {
    ChildEnd::Failed(StepError::new("http.503", "away"))
}

/// All branches have begun.
fn begun(plan: &Plan) -> Run<'_> {
    let mut run = Run::new(plan);
    run.take();
    for branch in 0..3 {
        run.succeed(&format!("checks.branch[{branch}]"));
    }
    run
}

fn ends(run: &mut Run<'_>, branch: u32, end: ChildEnd) {
    let child = run.child_of(&format!("checks.branch[{branch}]"));
    run.child_ends(child, end);
}

fn recalls(run: &Run<'_>) -> usize {
    let is_recall = |body: &EventBody| matches!(body, EventBody::ChildCancelRequested(body) if body.because == RecallReason::BranchFailed);
    run.log.iter().filter(|event| is_recall(&event.body)).count()
}

#[test]
fn branches_run_side_by_side_and_their_outputs_have_their_names() {
    let plan = checks("");
    let mut run = begun(&plan);
    let key = run.key("checks.branch[1]");
    assert_eq!(plan.label(key), "checks.branch[stock]");
    for branch in [2, 0, 1] {
        ends(&mut run, branch, completed(u64::from(branch)));
    }
    assert_eq!(run.state.status(false), RunStatus::Completed);
    let step = run.state.step(run.node("checks"));
    assert_eq!(**step.output.value().unwrap(), json!({"legal": 0, "stock": 1, "risk": 2}));
}

#[test]
fn the_first_failure_stops_the_other_branches_and_is_the_failure_of_the_node() {
    let plan = checks("");
    let mut run = begun(&plan);
    ends(&mut run, 0, completed(0));
    ends(&mut run, 2, failed());
    assert_eq!(recalls(&run), 1);
    // A new engine does not ask once more.
    run.take();
    ends(&mut run, 1, ChildEnd::Canceled);
    let step = run.state.step(run.node("checks"));
    let error = step.error.as_ref().unwrap();
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("http.503", "branch `risk` failed: away"));
    assert_eq!((step.status, run.state.status(false)), (StepStatus::Paused, RunStatus::Paused));

    // What has succeeded is not done again.
    run.command(Command::Retry { node: None }).unwrap();
    run.take();
    run.succeed("checks.branch[1]");
    run.succeed("checks.branch[2]");
    ends(&mut run, 1, completed(1));
    ends(&mut run, 2, completed(2));
    assert_eq!((run.state.status(false), recalls(&run)), (RunStatus::Completed, 1));
}

#[test]
fn without_fail_fast_every_branch_comes_to_its_own_end() {
    let plan = checks(", fail_fast: false");
    let mut run = begun(&plan);
    ends(&mut run, 2, failed());
    assert_eq!((recalls(&run), run.state.status(false)), (0, RunStatus::Waiting));
    ends(&mut run, 0, completed(0));
    ends(&mut run, 1, completed(1));
    assert_eq!(run.state.status(false), RunStatus::Paused);
    let error = run.state.step(run.node("checks")).error.clone().unwrap();
    assert_eq!(error.details.unwrap()["failed_branches"][0]["branch"], "risk");
}

#[test]
fn a_branch_that_was_not_begun_when_another_failed_is_begun_by_a_retry() {
    let plan = checks(", max_parallel: 1");
    let mut run = Run::new(&plan);
    run.take();
    run.succeed("checks.branch[0]");
    ends(&mut run, 0, failed());
    assert_eq!(run.state.status(false), RunStatus::Paused);
    run.command(Command::Retry { node: None }).unwrap();
    run.take();
    for branch in 0..3 {
        run.succeed(&format!("checks.branch[{branch}]"));
        ends(&mut run, branch, completed(7));
    }
    assert_eq!(run.state.status(false), RunStatus::Completed);
}
