//! Random graphs under random lives: whatever happens, the rules hold and the run can be brought to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::{Run, plan};
use proptest::prelude::*;
use windlass_model::command::Verdict;
use windlass_model::event::{
    CompensationOrder, CompensationPlanned, Origin, SkipReason, StepFailed, StepTimedOut, Then,
};
use windlass_model::plan::{Accept, Part, Role};
use windlass_model::{
    Actor, ChildEnd, Command, Event, EventBody, Input, NodeIndex, Outcome, PauseReason, Payload, Plan,
    RunStatus, StepError, StepKey, StepStatus, open_work,
};

/// What a random node does about an error, once its retries are used up.
const RULES: &[&str] = &[
    "pause",
    "continue",
    "fail",
    "skip",
    "escalate",
    "compensate",
    "[{ match: [http.5xx], action: retry, max_attempts: 2, backoff: { type: fixed, initial: 7s } }, { match: ['*'], action: fail }]",
    "[{ match: [http.5xx], action: fallback, output: 1 }]",
    "[{ match: ['*'], action: fallback, do: { type: work, on_error: fail, compensate: { type: noop } } }]",
    "[{ match: ['*'], action: escalate, timeout: 60s, on_timeout: approve }]",
];

/// What a random node does for each of its items.
const MAPS: &[&str] = &[
    "type: map, each: [1, 2, 3], max_parallel: 2, do: { type: noop MANNERS }",
    "type: map, each: [1, 2, 3, 4], tolerate: { failed_count: 1 }, do: { type: work MANNERS }",
    "type: map, each: [], do: { type: noop MANNERS }",
];
const LOOPS: &[&str] = &[
    "type: loop, until: loop.index >= 2, max_iterations: 5, do: { type: noop MANNERS }",
    "type: loop, while: loop.index < 3, max_iterations: 2, do: { type: work MANNERS }",
    "type: loop, while: false, max_iterations: 1, do: { type: noop MANNERS }",
];
const ITEMS: &[&str] = &[
    ", compensate: { type: noop }",
    ", retry: { max_attempts: 2, backoff: { type: fixed, initial: 5s } }, compensate: { type: work }",
    ", on_error: [{ match: ['*'], action: fallback, do: { type: work, compensate: { type: noop } } }]",
    ", on_error: pause",
    ", if: 'item.value > 1', on_error: [{ match: [http.5xx], action: continue, output: 0 }]",
];

/// When and in which order a random workflow undoes what it did.
pub(crate) const COMPENSATIONS: &[&str] = &[
    "{}",
    "{ order: declared }",
    "{ order: parallel }",
    "{ when: [failed], order: reverse }",
    "{ when: [canceled] }",
    "{ when: [] }",
];

/// One node of a random graph: its kind, its needs (as bits over earlier nodes), its manners.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    kind: u8,
    needs: u8,
    on_error: u8,
    retries: u8,
    gated: bool,
    accepts_all: bool,
    undone_by: u8,
}

pub(crate) fn node_spec() -> impl Strategy<Value = NodeSpec> {
    let manners =
        (0..RULES.len() as u8, 0..3u8, prop::bool::weighted(0.2), prop::bool::weighted(0.2), 0..5u8);
    (0..9u8, any::<u8>(), manners).prop_map(
        |(kind, needs, (on_error, retries, gated, accepts_all, undone_by))| NodeSpec {
            kind,
            needs,
            on_error,
            retries,
            gated,
            accepts_all,
            undone_by,
        },
    )
}

pub(crate) fn definition(nodes: &[NodeSpec], compensation: &str) -> String {
    let mut text = format!("version: 1\nname: random\ntype: dag\ncompensation: {compensation}\nnodes:\n");
    // Whoever asks for it must find something to undo.
    text += "  base: { type: noop, compensate: { type: noop } }\n";
    for (index, node) in nodes.iter().enumerate() {
        let kind = match node.kind {
            0 | 1 => "type: noop",
            2 => "type: work",
            3 => "type: approval, timeout: 60s",
            4 => "type: signal, name: go, timeout: 90s",
            6 => MAPS[usize::from(node.retries)],
            8 => "type: workflow, workflow: child, timeout: 80s",
            7 => LOOPS[usize::from(node.retries)],
            _ => "type: wait, for: 30s",
        };
        let needs: Vec<String> = (0..index.min(8))
            .filter(|earlier| node.needs & (1 << earlier) != 0)
            .map(|earlier| match node.accepts_all {
                true => format!("{{node: n{earlier}, accept: [succeeded, skipped, failed]}}"),
                false => format!("n{earlier}"),
            })
            .collect();
        let on_error = RULES[usize::from(node.on_error)];
        let manners = ITEMS[usize::from(node.undone_by)];
        let manners =
            if node.kind == 7 { manners.replace("item.value", "loop.index") } else { manners.into() };
        let kind = kind.replace("MANNERS", &manners);
        text += &format!("  n{index}: {{ {kind}, needs: [{}], on_error: {on_error}", needs.join(", "));
        if node.kind <= 2 || node.kind == 8 {
            text += &format!(
                ", retry: {{ max_attempts: {}, backoff: {{ type: fixed, initial: 5s }} }}",
                node.retries + 1
            );
            if node.gated {
                text += ", approval: { timeout: 60s, on_timeout: approve }";
            }
            text += match node.undone_by {
                0 => ", compensate: { type: noop }",
                1 => {
                    ", compensate: { type: work, retry: { max_attempts: 2, backoff: { type: fixed, initial: 5s } } }"
                }
                2 => ", compensate: { type: work, approval: { timeout: 60s } }",
                _ => "",
            };
        }
        text += " }\n";
    }
    text
}

/// One thing that happens to the run. Numbers choose among what is possible then.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Succeed(usize),
    Fail(usize),
    Late(usize),
    EngineDies,
    Pass(u8),
    Pause,
    Resume,
    Cancel,
    Approve(usize),
    Reject(usize),
    Retry(usize),
    Skip(usize),
    Edit(usize),
    Signal,
    Drain,
    ChildEnds(usize, u8),
}

pub(crate) fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => any::<usize>().prop_map(Happening::Succeed),
        3 => any::<usize>().prop_map(Happening::Fail),
        1 => any::<usize>().prop_map(Happening::Late),
        2 => Just(Happening::EngineDies),
        3 => (0..100u8).prop_map(Happening::Pass),
        1 => Just(Happening::Pause),
        3 => Just(Happening::Resume),
        1 => prop::bool::weighted(0.2).prop_map(|yes| if yes { Happening::Cancel } else { Happening::Resume }),
        3 => any::<usize>().prop_map(Happening::Approve),
        1 => any::<usize>().prop_map(Happening::Reject),
        2 => any::<usize>().prop_map(Happening::Retry),
        1 => any::<usize>().prop_map(Happening::Skip),
        1 => any::<usize>().prop_map(Happening::Edit),
        2 => Just(Happening::Signal),
        1 => Just(Happening::Drain),
        4 => (any::<usize>(), 0..3u8).prop_map(|(which, how)| Happening::ChildEnds(which, how)),
    ]
}

fn key(event: &Event) -> Option<StepKey> {
    event.node.map(|node| StepKey { node, item: event.item })
}

fn verdict(run: &Run<'_>, node: NodeIndex) -> Verdict {
    let attempt = run.state.step(node).gate.as_ref().map_or(1, |gate| gate.attempt);
    Verdict { node, attempt, digest: None, comment: None, form: Payload::null() }
}

fn pick(run: &Run<'_>, number: usize) -> StepKey {
    let count = run.state.all_steps().count();
    run.state.all_steps().nth(number % count).unwrap().0
}

pub(crate) fn happen(run: &mut Run<'_>, happening: &Happening) {
    let open: Vec<String> = run.in_flight();
    let chosen = |number: usize| open.get(number % open.len().max(1)).cloned();
    // A refusal is a fine answer to a random command; `Run` checks that it changed nothing.
    match *happening {
        Happening::Succeed(number) => drop(chosen(number).map(|id| run.succeed(&id))),
        Happening::Fail(number) => drop(chosen(number).map(|id| run.fail(&id, "http.500"))),
        Happening::Late(number) => {
            let StepKey { node, item } = pick(run, number);
            let attempt = run.state.step(StepKey { node, item }).attempt.saturating_sub(1);
            let before = run.log.len();
            run.tick(Input::Outcome { node, item, attempt, outcome: Outcome::Canceled });
            assert_eq!(run.log.len(), before, "what comes too late is ignored");
        }
        Happening::EngineDies => {
            if !run.state.is_terminal() {
                run.take();
            }
        }
        Happening::Pass(seconds) => run.pass(Duration::from_secs(seconds.into())),
        Happening::Pause => drop(run.command(Command::Pause)),
        Happening::Resume => drop(run.command(Command::Resume)),
        Happening::Cancel => drop(run.command(Command::Cancel { reason: None })),
        Happening::Approve(number) => {
            let verdict = verdict(run, pick(run, number).node);
            drop(run.command(Command::Approve(verdict)));
        }
        Happening::Reject(number) => {
            let verdict = verdict(run, pick(run, number).node);
            drop(run.command(Command::Reject(verdict)));
        }
        Happening::Retry(number) => drop(run.command(Command::Retry { node: Some(pick(run, number)) })),
        Happening::Skip(number) => drop(run.command(Command::Skip { node: pick(run, number) })),
        Happening::Edit(number) => {
            let outputs = [(pick(run, number).node, Payload::null())].into();
            drop(run.command(Command::Edit { outputs, context: Default::default() }));
        }
        Happening::Signal => {
            drop(run.command(Command::Signal { name: "go".into(), payload: Payload::null() }));
        }
        Happening::Drain => run.tick(Input::Drain),
        Happening::ChildEnds(number, how) => {
            let open: Vec<_> = run.state.children.keys().copied().collect();
            if let Some(child) = open.get(number % open.len().max(1)) {
                run.child_ends(*child, end_of_child(how));
            }
        }
    }
    run.tick(Input::Advance);
}

pub(crate) fn end_of_child(how: u8) -> ChildEnd {
    match how {
        0 => ChildEnd::Completed(Payload::null()),
        1 => ChildEnd::Failed(StepError::new("http.500", "it broke")),
        _ => ChildEnd::Canceled,
    }
}

/// A patient operator and a healthy engine bring any run to its end.
pub(crate) fn heal(run: &mut Run<'_>) {
    for _ in 0..400 {
        if run.state.is_terminal() {
            return;
        }
        // What goes on beyond its bound does so however often it is tried.
        for node in run.plan.nodes.iter().map(|node| node.index) {
            if run.state.step(node).error.as_ref().is_some_and(|error| error.kind == "limit.iterations") {
                drop(run.command(Command::Skip { node: node.into() }));
            }
        }
        if run.state.pause_reason().is_some() {
            run.command(Command::Resume).unwrap();
        }
        run.tick(Input::Advance);
        for id in run.in_flight() {
            if run.state.is_stopping(run.now) {
                run.outcome(&id, Outcome::Canceled);
            } else {
                run.succeed(&id);
            }
        }
        for (run_id, child) in run.state.children.clone() {
            run.child_ends(run_id, end_of_child(if child.recalled.is_some() { 2 } else { 0 }));
        }
        for node in run.plan.nodes.iter().map(|node| node.index) {
            let verdict = verdict(run, node);
            drop(run.command_by(Command::Approve(verdict), Actor::user("zoe")));
        }
        drop(run.command(Command::Signal { name: "go".into(), payload: Payload::null() }));
        run.pass(Duration::from_secs(30));
    }
    panic!("the run never ended: {:?}\n{:#?}", run.state.phase, run.names());
}

pub(crate) fn check_log(plan: &Plan, run: &Run<'_>) {
    // Why each that was skipped was, by what has settled.
    let origin = origin_of(run);
    let mut settled: BTreeMap<StepKey, Option<SkipReason>> = (origin.iter())
        .flat_map(|origin| &origin.steps)
        .map(|(id, reused)| {
            (run.key(id), reused.skip_reason.filter(|_| reused.status == StepStatus::Skipped))
        })
        .collect();
    let reused: BTreeSet<StepKey> = settled.keys().copied().collect();
    let mut outcomes = BTreeSet::new();
    let (mut canceling, mut children, mut recalled) = (false, BTreeSet::new(), BTreeSet::new());
    for (index, event) in run.log.iter().enumerate() {
        assert_eq!(event.seq.0 as usize, index + 1, "the log has no gaps");
        assert_eq!(event.body.is_terminal(), index + 1 == run.log.len(), "terminal is final, and last");
        canceling |= matches!(event.body, EventBody::CancelRequested(_));
        match &event.body {
            EventBody::ChildStarted(body) => assert!(children.insert(body.run_id), "started once"),
            EventBody::ChildCancelRequested(body) => {
                assert!(
                    children.contains(&body.run_id) && recalled.insert(body.run_id),
                    "asked to stop once"
                );
            }
            EventBody::ChildFinished(body) => assert!(children.remove(&body.run_id), "ended once"),
            body if body.is_terminal() => {
                assert_eq!(children, BTreeSet::new(), "no child outlives its parent")
            }
            _ => {}
        }
        let Some(node) = key(event) else { continue };
        if event.body.is_outcome()
            && let Some(attempt) = event.attempt
        {
            assert!(outcomes.insert((node, attempt)), "one outcome per attempt: {:?}", run.names());
        }
        match &event.body {
            EventBody::StepStarted(_) => {
                let undoes = matches!(plan.node(node).part, Part::Compensation { .. });
                assert!(undoes || !canceling, "nothing but undoing starts after a cancel");
                assert!(!reused.contains(&node), "what is reused is not done again");
                for need in &plan.node(node).needs {
                    let end = settled.get(&need.node.into()).expect("no step before its needs");
                    if need.accept == Accept::Default {
                        assert!(
                            end.is_none_or(|reason| reason == SkipReason::Command),
                            "a skipped need lets nobody start"
                        );
                    }
                }
                let attempt = event.attempt.unwrap();
                let before =
                    run.log[..index].iter().filter(|it| key(it) == Some(node) && it.body.is_outcome());
                assert_eq!(
                    before.filter(|it| it.attempt == Some(attempt - 1)).count(),
                    usize::from(attempt > 1),
                    "attempt {attempt} starts after the outcome of the one before"
                );
            }
            EventBody::StepSkipped(body) => drop(settled.insert(node, Some(body.reason))),
            EventBody::StepSucceeded(_) | EventBody::StepFailed(_) | EventBody::StepTimedOut(_) => {
                settled.insert(node, None);
            }
            // A step that was skipped stays so.
            EventBody::StepEdited(_) => drop(settled.entry(node).or_default()),
            _ => {}
        }
    }
}

/// What a run goes on from, if it does.
fn origin_of<'r>(run: &'r Run<'_>) -> Option<&'r Origin> {
    match &run.log[0].body {
        EventBody::RunCreated(body) => body.origin.as_deref(),
        _ => None,
    }
}

/// What took effect, or may have, is undone exactly once, if the definition says so; and nothing else is.
pub(crate) fn check_undoing(plan: &Plan, run: &Run<'_>) {
    // Who takes the place of a run answers for what that one did.
    let before = origin_of(run).map(|origin| origin.acted.as_slice()).unwrap_or_default();
    let mut acted: Vec<StepKey> = before.iter().map(|id| run.key(id)).collect();
    let mut in_flight: BTreeSet<StepKey> = BTreeSet::new();
    let mut planned: Option<(usize, &CompensationPlanned)> = None;
    let mut must = false;
    for (at, event) in run.log.iter().enumerate() {
        if let EventBody::CompensationPlanned(body) = &event.body {
            assert!(planned.is_none(), "planned once");
            planned = Some((at, body));
        }
        let Some(node) = key(event) else { continue };
        let ended = match &event.body {
            EventBody::StepStarted(_) => {
                let undoes = matches!(plan.node(node).part, Part::Compensation { .. });
                assert_eq!(
                    undoes,
                    planned.is_some(),
                    "undoing begins when it was planned, and then nothing else"
                );
                in_flight.insert(node);
                continue;
            }
            EventBody::StepFailed(StepFailed { then, .. })
            | EventBody::StepTimedOut(StepTimedOut { then, .. }) => {
                must |= *then == Then::Compensate;
                let is_run = !matches!(plan.node(node).role, Role::Workflow(_));
                is_run && matches!(event.body, EventBody::StepTimedOut(_))
            }
            body if body.is_outcome() => {
                // A child that does not complete undoes what it did by itself.
                let is_run = matches!(plan.node(node).role, Role::Workflow(_));
                !is_run || matches!(body, EventBody::StepSucceeded(_))
            }
            _ => continue,
        };
        if in_flight.remove(&node) && ended && plan.node(node).compensation.is_some() {
            acted.retain(|it| *it != node);
            acted.push(node);
        }
    }
    let after = match &run.log.last().unwrap().body {
        EventBody::RunCanceled(body) if body.moved_to.is_some() => {
            return assert!(planned.is_none(), "that is left to the run that takes its place");
        }
        EventBody::RunFailed(_) => plan.compensation.after_failure,
        EventBody::RunCanceled(_) => plan.compensation.after_cancel,
        _ => return assert!(planned.is_none(), "a run that completes undoes nothing"),
    };
    let Some((at, planned)) = planned else {
        return assert!(acted.is_empty() || !(after || must), "not undone: {acted:?} {:#?}", run.names());
    };
    assert!(after || must, "nobody wanted it undone");
    let undoing = |key: &StepKey| Some(StepKey { node: plan.node(*key).compensation?, ..*key });
    let mut wanted: Vec<StepKey> = acted.iter().filter_map(undoing).collect();
    let mut steps = planned.steps.clone();
    match planned.order {
        CompensationOrder::Reverse => wanted.reverse(),
        CompensationOrder::Declared | CompensationOrder::Parallel => {
            wanted.sort_unstable();
            steps.sort_unstable();
        }
    }
    assert_eq!(steps, wanted);
    let (mut starts, mut ends): (Vec<StepKey>, Vec<StepKey>) = (Vec::new(), Vec::new());
    for event in &run.log[at..] {
        let Some(node) = key(event) else { continue };
        match event.body {
            EventBody::StepStarted(_) if !starts.contains(&node) => starts.push(node),
            EventBody::StepSucceeded(_) | EventBody::StepSkipped(_) => ends.push(node),
            _ => {}
        }
    }
    if planned.order != CompensationOrder::Parallel {
        let in_turn: Vec<StepKey> =
            planned.steps.iter().filter(|node| starts.contains(node)).copied().collect();
        assert_eq!(starts, in_turn, "each in its turn");
    }
    ends.sort_unstable();
    steps.sort_unstable();
    assert_eq!(ends, steps, "each undone once, or skipped by a person");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_run_can_be_brought_to_its_end_and_its_log_makes_sense(
        nodes in prop::collection::vec(node_spec(), 1..9),
        compensation in 0..COMPENSATIONS.len(),
        life in prop::collection::vec(happening(), 0..60),
    ) {
        let plan = plan(&definition(&nodes, COMPENSATIONS[compensation]));
        let mut run = Run::new(&plan);
        run.take();
        for event in &life {
            happen(&mut run, event);
            assert_eq!(open_work(&run.state).count(), run.state.in_flight.len());
        }
        run.check_fold();
        heal(&mut run);
        run.check_fold();
        check_log(&plan, &run);
        check_undoing(&plan, &run);
        let status = run.state.status(false);
        assert!(matches!(status, RunStatus::Completed | RunStatus::Failed | RunStatus::Canceled));
        if status == RunStatus::Completed {
            assert!(run.state.steps[..plan.main_count()].iter().all(|step| step.status.is_settled()));
        }
        assert!(run.state.all_steps().all(|(_, step)| !matches!(step.status, StepStatus::Running | StepStatus::Paused)));
        assert_ne!(run.state.pause_reason(), Some(PauseReason::Requested));
    }
}
