//! `windlass run`: a definition to its end inside the process.

use std::process::Stdio;

use crate::desk::{Desk, at_a_terminal, eventually, signal, steady};

const HELLO: &str = r#"
version: 1
name: hello
type: steps
inputs:
  type: object
  properties: { name: { type: string, default: world } }
  additionalProperties: false
steps:
  - id: greet
    type: script
    run: |
      sleep 0.5; echo 'looking for a greeting' >&2
      echo '{"word": "hello"}'
  - id: shape
    type: transform
    output: "${{ nodes.greet.output.word }} ${{ inputs.name }}"
    artifacts: { greeting.txt: "${{ nodes.greet.output.word }}, ${{ inputs.name }}!" }
outputs: { greeting: "${{ nodes.shape.output }}" }
"#;

const GATED: &str = r#"
version: 1
name: gated
type: steps
steps:
  - id: ask
    type: approval
    approvers: { any_of: ["role:editor", "user:ada"], min: 2 }
    show: { total: 41, note: "two\nlines" }
  - { id: after, type: noop }
outputs: { by: "${{ nodes.ask.output.by }}" }
"#;

const FLAKY: &str = r#"
version: 1
name: flaky
type: steps
inputs: { type: object, properties: { marker: { type: string } } }
steps:
  - id: deed
    type: script
    env: { MARKER: "${{ inputs.marker }}" }
    run: |
      if [ -e "$MARKER" ]; then echo '{"done": true}'; else touch "$MARKER"; echo broken >&2; exit 3; fi
outputs: { done: "${{ nodes.deed.output.done }}" }
"#;

#[test]
fn a_small_definition_runs_to_its_end_with_each_step_shown() {
    let desk = Desk::new();
    desk.write("hello.yaml", HELLO);
    let ended = desk.run(&["run", "hello.yaml", "-i", "name=Ada"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "greeting: hello Ada\n");
    insta::assert_snapshot!(steady(&ended.err, &desk.path("")));
}

#[test]
fn results_come_in_the_form_that_was_asked_for() {
    let desk = Desk::new();
    desk.write("hello.yaml", HELLO);
    let run: serde_json::Value =
        serde_json::from_str(&desk.run(&["run", "hello.yaml", "-o", "json"]).out).unwrap();
    assert_eq!(run["status"], "completed");
    assert_eq!(run["output"]["greeting"], "hello world");
    assert_eq!(run["steps"].as_array().unwrap().len(), 2);
    let lines = desk.run(&["run", "hello.yaml", "-o", "jsonl"]).out;
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["event"]["type"], "run.completed");
    assert_eq!(desk.run(&["run", "hello.yaml", "-o", "id"]).out.trim().len(), 36);
}

#[test]
fn artifacts_are_written_where_they_are_wanted() {
    let desk = Desk::new();
    desk.write("hello.yaml", HELLO);
    let ended = desk.run(&["run", "hello.yaml", "--artifacts", "out"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read_to_string(desk.path("out/shape/greeting.txt")).unwrap(), "hello, world!");
    assert_eq!(std::fs::read_to_string(desk.path("out/greet/log")).unwrap(), "looking for a greeting\n");
}

#[test]
fn inputs_that_do_not_fit_are_refused_before_anything_runs() {
    let desk = Desk::new();
    desk.write("hello.yaml", HELLO);
    let ended = desk.run(&["run", "hello.yaml", "-i", "nmae=Ada", "-i", "name=1"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    insta::assert_snapshot!(ended.err);
}

#[test]
fn a_broken_definition_does_not_start() {
    let desk = Desk::new();
    desk.write("broken.yaml", "version: 1\nname: x\ntype: steps\nsteps:\n  - { id: a, type: nonsense }\n");
    let ended = desk.run(&["run", "broken.yaml"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.starts_with("error: broken.yaml is not valid: 1 problem\n"), "{}", ended.err);
    assert!(ended.err.contains(" 5 |   - { id: a, type: nonsense }"), "{}", ended.err);
}

#[test]
fn without_a_terminal_an_approval_says_how_to_go_on() {
    let desk = Desk::new();
    desk.write("gated.yaml", GATED);
    let ended = desk.run(&["run", "gated.yaml"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("--yes approves without asking"), "{}", ended.err);
    let kept = desk.run(&["run", "gated.yaml", "--db", "kept.db"]);
    assert!(kept.err.contains("windlass dev --db kept.db"), "{}", kept.err);
    assert_eq!(desk.run(&["doctor", "--db", "kept.db"]).code, 0);
}

#[test]
fn yes_approves_in_the_name_of_as_many_people_as_are_asked_for() {
    let desk = Desk::new();
    desk.write("gated.yaml", GATED);
    let ended = desk.run(&["run", "gated.yaml", "--yes", "--user", "me", "-o", "json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let run: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(run["output"]["by"], serde_json::json!(["me", "me-2"]));
}

#[test]
fn a_person_at_a_terminal_is_shown_what_to_approve_and_asked() {
    let desk = Desk::new();
    desk.write("gated.yaml", GATED);
    let dialogue = [
        ("approve? [y]es, [n]o:", "perhaps"),
        ("approve? [y]es, [n]o:", "y"),
        ("comment", "looks right"),
        ("approve? [y]es, [n]o:", "y"),
        ("comment", ""),
    ];
    let ended = at_a_terminal(&desk, &["run", "gated.yaml", "--user", "me"], &dialogue);
    assert_eq!(ended.code, 0, "{}", ended.out);
    for part in
        ["total: 41", "may approve: role:editor, user:ada", "approved by me so far, of 2", "looks right"]
    {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}

/// Each item has a run of its own, in which somebody is asked; and one of them fails once.
const NESTED: &str = r#"
version: 1
name: nested
type: steps
inputs: { type: object, properties: { marker: { type: string } } }
steps:
  - id: each
    type: map
    each: [red, blue]
    as: color
    max_parallel: 1
    do:
      defaults: { on_error: pause }
      steps:
        - { id: ask, type: approval, show: { color: "${{ color }}" } }
        - id: deed
          type: script
          env: { MARKER: "${{ inputs.marker }}" }
          run: |
            if [ -e "$MARKER" ]; then echo '{"done": true}'; else touch "$MARKER"; echo broken >&2; exit 3; fi
outputs: { done: "${{ nodes.each.output | length }}" }
"#;

#[test]
fn what_runs_below_ask_is_asked_and_answered_too() {
    let desk = Desk::new();
    desk.write("nested.yaml", NESTED);
    let marker = format!("marker={}", desk.path("marker").display());
    let dialogue = [
        ("approve? [y]es, [n]o:", "y"),
        ("comment", "the first"),
        ("[r]etry, [s]kip, [c]ancel the run:", "r"),
        ("approve? [y]es, [n]o:", "y"),
        ("comment", ""),
    ];
    let ended = at_a_terminal(&desk, &["run", "nested.yaml", "-i", &marker], &dialogue);
    assert_eq!(ended.code, 0, "{}", ended.out);
    for part in
        ["color: red", "color: blue", "of nested.each waits for an approval", "script.exit_3", "done: 2"]
    {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}

#[test]
fn without_a_terminal_a_gate_below_says_how_to_go_on_and_yes_approves_it() {
    let desk = Desk::new();
    desk.write("nested.yaml", NESTED);
    std::fs::write(desk.path("marker"), "").unwrap();
    let marker = format!("marker={}", desk.path("marker").display());
    let ended = desk.run(&["run", "nested.yaml", "-i", &marker]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("step `ask` waits for an approval"), "{}", ended.err);
    assert_eq!(desk.run(&["run", "nested.yaml", "-i", &marker, "--yes"]).out, "done: 2\n");
}

#[test]
fn a_person_who_says_no_is_believed() {
    let desk = Desk::new();
    desk.write("gated.yaml", GATED);
    let dialogue = [
        ("approve? [y]es, [n]o:", "n"),
        ("comment", "too much"),
        ("[r]etry, [s]kip, [c]ancel the run:", "c"),
    ];
    let ended = at_a_terminal(&desk, &["run", "gated.yaml"], &dialogue);
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(ended.out.contains("too much") && ended.out.contains("run canceled"), "{}", ended.out);
}

#[test]
fn a_step_that_failed_for_good_can_be_retried_at_the_terminal() {
    let desk = Desk::new();
    desk.write("flaky.yaml", FLAKY);
    let marker = format!("marker={}", desk.path("marker").display());
    let dialogue = [("[r]etry, [s]kip, [c]ancel the run:", "r")];
    let ended = at_a_terminal(&desk, &["run", "flaky.yaml", "-i", &marker], &dialogue);
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(ended.out.contains("script.exit_3") && ended.out.contains("attempt 2"), "{}", ended.out);
}

#[test]
fn without_a_terminal_a_step_that_failed_for_good_ends_the_command() {
    let desk = Desk::new();
    desk.write("flaky.yaml", FLAKY);
    let marker = format!("marker={}", desk.path("marker").display());
    let ended = desk.run(&["run", "flaky.yaml", "-i", &marker]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("script.exit_3"), "{}", ended.err);
    assert!(ended.err.contains("step `deed` needs a person (step_failed)"), "{}", ended.err);
}

#[test]
fn a_run_that_fails_says_why_and_ends_with_1() {
    let desk = Desk::new();
    desk.write("flaky.yaml", &FLAKY.replace("type: steps", "type: steps\non_error: fail"));
    let marker = format!("marker={}", desk.path("marker").display());
    let ended = desk.run(&["run", "flaky.yaml", "-i", &marker]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("run failed in") && ended.err.contains("script.exit_3"), "{}", ended.err);
}

#[test]
fn ctrl_c_cancels_the_run() {
    let desk = Desk::new();
    // Again and again: a line is shown to whoever watches already, and is no history.
    desk.write("slow.yaml", "version: 1\nname: slow\ntype: steps\nsteps:\n  - { id: nap, type: script, run: \"while sleep 0.1; do echo asleep >&2; done\" }\n");
    let mut command = desk.command(&["run", "slow.yaml"]);
    let log = std::fs::File::create(desk.path("err")).unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let shown = |part: &str| std::fs::read_to_string(desk.path("err")).unwrap().contains(part).then_some(());
    eventually("the first line of the step", || shown("asleep"));
    signal(&child, "INT");
    let status = eventually("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert!(shown("run canceled").is_some(), "{}", std::fs::read_to_string(desk.path("err")).unwrap());
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_run_in_good_order() {
    let desk = Desk::new();
    desk.write("hello.yaml", HELLO);
    std::fs::create_dir(desk.path("tmp")).unwrap();
    let mut command = desk.command(&["run", "hello.yaml", "-o", "jsonl"]);
    let mut child =
        command.env("TMPDIR", desk.path("tmp")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let status = eventually("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    // Who looks after the scripts tidies up when the command has gone.
    let is_empty = || std::fs::read_dir(desk.path("tmp")).unwrap().next().is_none().then_some(());
    eventually("nothing to be left behind", is_empty);
}

#[test]
fn a_gate_without_anybody_to_ask_does_not_wait_for_the_steps_beside_it() {
    let desk = Desk::new();
    desk.write(
        "beside.yaml",
        "version: 1\nname: beside\ntype: dag\nnodes:\n  ask: { type: approval }\n  nap: { type: script, run: sleep 60 }\n",
    );
    let began = std::time::Instant::now();
    assert_eq!(desk.run(&["run", "beside.yaml"]).code, 2);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_name_that_no_header_can_carry_is_refused() {
    let desk = Desk::new();
    desk.write("hello.yaml", HELLO);
    let ended = desk.run(&["run", "hello.yaml", "--user", "Ada Lovelace"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("`Ada Lovelace` is no name that can be claimed"), "{}", ended.err);
}

#[test]
fn an_undoing_that_failed_is_retried_or_skipped_and_a_cancel_is_not_offered() {
    let desk = Desk::new();
    desk.write(
        "undone.yaml",
        r#"
version: 1
name: undone
type: steps
on_error: fail
compensation: { when: [failed] }
steps:
  - id: book
    type: noop
    compensate: { type: script, run: exit 4 }
  - { id: pay, type: script, run: exit 3 }
"#,
    );
    let dialogue = [("[r]etry, [s]kip:", "c"), ("[r]etry, [s]kip:", "r"), ("[r]etry, [s]kip:", "s")];
    let ended = at_a_terminal(&desk, &["run", "undone.yaml"], &dialogue);
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(!ended.out.contains("[c]ancel"), "{}", ended.out);
    assert!(ended.out.contains("book.compensate needs you (attempt 2)"), "{}", ended.out);
    assert!(ended.out.contains("(incomplete compensation): script.exit_3"), "{}", ended.out);
}

#[test]
fn a_prompt_goes_away_with_the_approval_that_it_asks_for() {
    let desk = Desk::new();
    desk.write(
        "brief.yaml",
        "version: 1\nname: brief\ntype: steps\non_error: fail\nsteps:\n  - { id: ask, type: approval, timeout: 2s }\n",
    );
    let ended = at_a_terminal(&desk, &["run", "brief.yaml"], &[]);
    assert_eq!(ended.code, 1, "{}", ended.out);
    for part in ["approve? [y]es, [n]o:", "this approval has ended", "run failed"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}
