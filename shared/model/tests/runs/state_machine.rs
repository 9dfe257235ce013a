//! Prints what every command does in every status into `docs/state-machine.md`.

use std::fmt::Write as _;

use crate::common::{Run, plan};
use uuid::Uuid;
use windlass_model::command::Verdict;
use windlass_model::{Command, Outcome, Payload, Plan, RunId};

const DEFINITION: &str = "
version: 1
name: table
type: dag
nodes:
  do: { type: noop, on_error: fail }
  try: { type: work, on_error: [{ match: [http.409], action: escalate }], compensate: { type: work } }
  ask: { type: approval }
  hear: { type: signal, name: go }
";

type Setting = (&'static str, fn(&mut Run<'_>));

const SETTINGS: &[Setting] = &[
    ("queued", |_| {}),
    ("running", |run| run.take()),
    ("waiting", |run| {
        run.take();
        run.succeed("do");
        run.succeed("try");
    }),
    ("paused: requested", |run| {
        run.take();
        run.succeed("do");
        run.succeed("try");
        run.command(Command::Pause).unwrap();
    }),
    ("paused: step_failed", |run| {
        run.take();
        run.succeed("do");
        run.fail("try", "http.500");
    }),
    ("paused: engine_interrupted", |run| {
        run.take();
        run.succeed("do");
        run.take();
    }),
    ("paused: quarantined", |run| {
        run.take();
        run.succeed("try");
        for _ in 0..3 {
            run.take();
        }
    }),
    ("paused: escalated", |run| {
        run.take();
        run.succeed("do");
        run.fail("try", "http.409");
    }),
    ("failing", |run| {
        run.take();
        run.fail("do", "http.500");
    }),
    ("compensating", |run| {
        run.take();
        run.succeed("try");
        run.fail("do", "http.500");
    }),
    ("paused: requested, compensating", |run| {
        run.take();
        run.succeed("try");
        run.fail("do", "http.500");
        run.command(Command::Pause).unwrap();
    }),
    ("paused: compensation_failed", |run| {
        run.take();
        run.succeed("try");
        run.fail("do", "http.500");
        run.fail("try.compensate", "http.500");
    }),
    ("canceling", |run| {
        run.take();
        run.command(Command::Cancel { reason: None }).unwrap();
    }),
    ("completed", |run| {
        run.take();
        run.succeed("do");
        run.succeed("try");
        let ask = run.node("ask");
        run.command(Command::Approve(verdict(ask))).unwrap();
        run.command(Command::Signal { name: "go".into(), payload: Payload::null() }).unwrap();
        run.tick(windlass_model::Input::Advance);
    }),
    ("failed", |run| {
        run.take();
        run.fail("do", "http.500");
        run.outcome("try", Outcome::Canceled);
        run.succeed("try.compensate");
    }),
    ("canceled", |run| {
        run.command(Command::Cancel { reason: None }).unwrap();
        run.take();
    }),
];

fn verdict(node: windlass_model::NodeIndex) -> Verdict {
    Verdict { node, attempt: 1, digest: None, comment: None, form: Payload::null() }
}

fn commands(plan: &Plan) -> Vec<(&'static str, Command)> {
    let ask = plan.by_id["ask"];
    let step = plan.by_id["try"];
    let undoing = plan.by_id["try.compensate"];
    vec![
        ("pause", Command::Pause),
        ("resume", Command::Resume),
        ("cancel", Command::Cancel { reason: None }),
        ("approve a gate", Command::Approve(verdict(ask))),
        ("reject a gate", Command::Reject(verdict(ask))),
        ("retry", Command::Retry { node: None }),
        ("retry a step", Command::Retry { node: Some(step.into()) }),
        ("skip a step", Command::Skip { node: step.into() }),
        ("retry an undoing", Command::Retry { node: Some(undoing.into()) }),
        ("skip an undoing", Command::Skip { node: undoing.into() }),
        ("signal", Command::Signal { name: "go".into(), payload: Payload::null() }),
        (
            "edit a step",
            Command::Edit { outputs: [(step, Payload::null())].into(), context: Default::default() },
        ),
        ("move", Command::Move { to: RunId(Uuid::nil()) }),
    ]
}

#[test]
fn the_table_of_statuses_and_commands_is_the_one_in_the_docs() {
    let plan = plan(DEFINITION);
    let mut table = String::from(
        "# What a command does in every status\n\n\
         Printed by a test from the rules themselves; don't edit. A cell is the status right after the command was\n\
         recorded, or the code of the 409 that refuses it. `failing` is a run whose step has failed for good while\n\
         another is still in flight; its status reads `running`. An undoing is the step that `compensate` stands for. The rules stand in `shared/model/src/decide/commands.rs`.\n\n|",
    );
    for (name, _) in std::iter::once(&("", Command::Pause)).chain(&commands(&plan)) {
        write!(table, " {name} |").unwrap();
    }
    table.push_str("\n|");
    table.push_str(&" --- |".repeat(commands(&plan).len() + 1));
    for (name, set_up) in SETTINGS {
        write!(table, "\n| **{name}** |").unwrap();
        for (_, command) in commands(&plan) {
            let mut run = Run::new(&plan);
            set_up(&mut run);
            let expected = name.split(':').next().unwrap();
            let status = run.state.status(true).as_str();
            assert!(
                status == expected || (expected, status) == ("queued", "running") || expected == "failing",
                "{name} is {status}"
            );
            let cell = match run.command(command) {
                Ok(()) => match run.state.status(expected == "running").as_str() {
                    "queued" | "running" => "queued or running".to_owned(),
                    status => status.to_owned(),
                },
                Err(rejection) => format!("`{}`", rejection.code.as_str()),
            };
            run.check_fold();
            write!(table, " {cell} |").unwrap();
        }
    }
    table.push('\n');

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, table, "docs/state-machine.md is out of date: run this test with UPDATE_DOCS=1");
}
