//! Commands that need no server: help, validate, graph, schema, config, completion, version.

use crate::desk::Desk;

const VALID: &str = "\
version: 1
name: hello
type: steps
steps:
  - { id: greet, type: noop }
";

const BROKEN: &str = "\
version: 1
name: Hello World
type: dag
nodes:
  load: { type: http, with: { url: \"http://x\" }, retry: { max_atempts: 3 } }
  grade:
    type: transform
    needs: [lod]
    output: ${{ nodes.load.output.boddy | }}
  send: { type: emial }
";

#[test]
fn help_names_every_command_and_the_first_steps() {
    insta::assert_snapshot!(Desk::new().run(&["--help"]).out);
}

#[test]
fn help_of_run_shows_examples_and_exit_codes() {
    insta::assert_snapshot!(Desk::new().run(&["run", "--help"]).out);
}

#[test]
fn every_problem_of_a_definition_is_shown_where_it_stands() {
    let desk = Desk::new();
    desk.write("broken.yaml", BROKEN);
    let ended = desk.run(&["validate", "broken.yaml"]);
    assert_eq!(ended.code, 1);
    insta::assert_snapshot!(format!("{}---- standard output\n{}", ended.err, ended.out));
}

#[test]
fn a_valid_definition_among_broken_ones_is_said_to_be_valid() {
    let desk = Desk::new();
    desk.write("broken.yaml", BROKEN);
    desk.write("valid.yaml", VALID);
    let ended = desk.run(&["validate", "valid.yaml", "broken.yaml"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.starts_with("valid valid.yaml: hello (steps, 1 node)\n"), "{}", ended.out);
    assert_eq!(desk.run(&["validate", "valid.yaml"]).code, 0);
    assert_eq!(desk.run(&["validate", "missing.yaml"]).code, 3);
}

#[test]
fn validation_reports_can_be_read_by_programs() {
    let desk = Desk::new();
    desk.write("broken.yaml", BROKEN);
    let ended = desk.run(&["validate", "broken.yaml", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report[0]["valid"], false);
    let problems = report[0]["problems"].as_array().unwrap();
    assert!(problems.len() >= 4, "{problems:?}");
    assert!(problems.iter().all(|it| it["line"].is_number() && it["detail"].is_string()), "{problems:?}");
    assert_eq!(ended.err, "");
}

#[test]
fn a_definition_can_come_from_standard_input() {
    let desk = Desk::new();
    let file = std::fs::File::open(desk.write("valid.yaml", VALID)).unwrap();
    let output = desk.command(&["validate", "-"]).stdin(file).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "valid standard input: hello (steps, 1 node)\n");
}

#[test]
fn control_characters_of_a_definition_do_not_reach_the_terminal() {
    let desk = Desk::new();
    desk.write("evil.yaml", "version: 1\nname: \"x\u{1b}[2J\"\ntype: nonsense\u{202e}\n");
    let ended = desk.run(&["validate", "evil.yaml"]);
    assert_eq!(ended.code, 1);
    assert!(!ended.err.contains('\u{1b}') && !ended.err.contains('\u{202e}'), "{:?}", ended.err);
}

#[test]
fn a_definition_can_be_drawn() {
    let desk = Desk::new();
    desk.write("valid.yaml", VALID);
    let mermaid = desk.run(&["graph", "valid.yaml"]);
    assert!(mermaid.out.contains("greet") && mermaid.code == 0, "{mermaid:?}");
    let dot = desk.run(&["graph", "valid.yaml", "--format", "dot"]);
    assert!(dot.out.starts_with("digraph") && dot.code == 0, "{dot:?}");
}

#[test]
fn the_schema_knows_every_kind_of_node() {
    let ended = Desk::new().run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let text = schema.to_string();
    for kind in ["noop", "transform", "http", "script", "approval", "wait", "signal", "switch", "emit"] {
        assert!(text.contains(&format!("\"{kind}\"")), "{kind}");
    }
}

#[test]
fn the_effective_settings_are_shown_with_secrets_masked() {
    let desk = Desk::new();
    desk.write("windlass.toml", "session_ttl = \"9s\"\ncursor_key = \"very secret\"\n");
    let mut command = desk.command(&["config", "view", "--config", "windlass.toml"]);
    command
        .env("WINDLASS_DATABASE_URL", "sqlite://ada:hunter2@x.db")
        .env("WINDLASS_SECRET_CRM_TOKEN", "hunter3");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("hunter") && !text.contains("very secret"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_misspelled_setting_is_refused_with_the_right_one() {
    let desk = Desk::new();
    let mut command = desk.command(&["config", "view"]);
    let output = command.env("WINDLASS_SESION_TTL", "5s").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: WINDLASS_SESION_TTL is no variable of Windlass; did you mean `WINDLASS_SESSION_TTL`?\n"
    );
}

#[test]
fn completion_scripts_and_the_version_are_printed() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let ended = desk.run(&["completion", shell]);
        assert!(ended.code == 0 && ended.out.contains("healthcheck"), "{shell}");
    }
    assert_eq!(desk.run(&["version"]).out, format!("windlass {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_that_nobody_knows_is_a_usage_error() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["rnus"]).code, 2);
    assert_eq!(desk.run(&["runs", "cancel"]).code, 2);
    assert_eq!(desk.run(&["run", "x.yaml", "-i", "nonsense"]).code, 2);
    assert_eq!(desk.run(&["run", "x.yaml"]).code, 3);
}

#[test]
fn a_server_that_is_not_there_is_named_with_what_to_do() {
    // Port 1 answers nobody on a machine that is not a museum.
    let ended = Desk::new().run(&["runs", "list", "--server", "http://127.0.0.1:1"]);
    assert_eq!(ended.code, 1);
    insta::assert_snapshot!(ended.err);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let desk = Desk::new();
    let mut child = desk
        .command(&["completion", "zsh"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}
