//! `windlass dev` and the commands that talk to it.

use crate::desk::{Desk, Ended, Server, at_a_terminal_while, eventually, steady};
use serde_json::Value;

const GATED: &str = r#"
version: 1
name: gated
type: steps
inputs: { type: object, properties: { amount: { type: integer } }, additionalProperties: false }
steps:
  - id: ask
    type: approval
    approvers: { any_of: ["role:editor"] }
    show: { amount: "${{ inputs.amount }}" }
  - { id: after, type: transform, output: "${{ inputs.amount + 1 }}" }
outputs: { next: "${{ nodes.after.output }}" }
"#;

const LISTENING: &str = r#"
version: 1
name: listening
type: steps
steps:
  - { id: paid, type: signal, name: paid }
outputs: { amount: "${{ nodes.paid.output.amount }}" }
"#;

/// Two of its three items fail.
const MAPPED: &str = r#"
version: 1
name: mapped
type: steps
steps:
  - id: each
    type: map
    each: [red, blue, green]
    as: color
    max_parallel: 3
    do:
      type: script
      on_error: pause
      env: { COLOR: "${{ color }}" }
      run: if [ "$COLOR" = red ]; then echo 1; else exit 3; fi
"#;

/// A server and the desk from which it is spoken to.
struct Office {
    desk: Desk,
    server: Server,
}

impl Office {
    fn open() -> Self {
        let desk = Desk::new();
        desk.write("gated.yaml", GATED);
        desk.write("listening.yaml", LISTENING);
        let server = desk.dev(&[]);
        let office = Self { desk, server };
        let pushed = office.ask(&["workflow", "push", "gated.yaml", "listening.yaml"]);
        assert_eq!(pushed.code, 0, "{pushed:?}");
        office
    }

    fn publish(&self, name: &str, definition: &str) {
        let file = format!("{name}.yaml");
        self.desk.write(&file, definition);
        let pushed = self.ask(&["workflow", "push", &file]);
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }

    fn ask(&self, args: &[&str]) -> Ended {
        Ended::from(self.desk.command(args).env("WINDLASS_SERVER", &self.server.url).output().unwrap())
    }

    fn json(&self, args: &[&str]) -> Value {
        let ended = self.ask(&[args, &["-o", "json"]].concat());
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    fn start(&self, workflow: &str, more: &[&str]) -> String {
        let ended = self.ask(&[&["runs", "start", workflow, "-o", "id"], more].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out.trim().to_owned()
    }

    fn wait_for(&self, id: &str, status: &str) -> Value {
        eventually(status, || {
            let run = self.json(&["runs", "get", id]);
            (run["status"] == status).then_some(run)
        })
    }
}

#[test]
fn a_run_is_started_approved_and_watched_to_its_end() {
    let office = Office::open();
    let id = office.start("gated", &["-i", "amount=12", "--label", "customer=ada"]);
    office.wait_for(&id, "waiting");
    let inbox = office.json(&["approvals", "list"]);
    assert_eq!((&inbox[0]["run_id"], &inbox[0]["node"]), (&Value::from(id.as_str()), &Value::from("ask")));

    let stranger = office.ask(&["runs", "approve", &id]);
    assert_eq!(stranger.code, 4, "{stranger:?}");
    let editor =
        office.ask(&["runs", "approve", &id, "--user", "bob", "--role", "editor", "--comment", "fine"]);
    assert_eq!(editor.code, 0, "{editor:?}");

    let decided = office.ask(&["approvals", "list", "--status", "decided"]);
    assert!(decided.out.contains("  granted  user:bob"), "{decided:?}");

    let watched = office.ask(&["runs", "watch", &id]);
    assert_eq!((watched.code, watched.out.as_str()), (0, "next: 13\n"), "{watched:?}");
    assert!(watched.err.contains("approved by bob: fine"), "{}", watched.err);
    let again = office.ask(&["runs", "approve", &id, "ask", "--attempt", "1"]);
    assert_eq!(again.code, 5, "{again:?}");
    let found = office.ask(&["runs", "list", "--label", "customer=ada", "--status", "completed", "-o", "id"]);
    assert_eq!(found.out, format!("{id}\n"));
    let shown = office.ask(&["runs", "get", &id]);
    for part in ["gated@1", "completed", "customer=ada", "next: 13", "ask", "after"] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
}

#[test]
fn a_signal_reaches_the_step_that_waits_for_it() {
    let office = Office::open();
    let id = office.start("listening", &[]);
    office.wait_for(&id, "waiting");
    let explained = office.ask(&["runs", "explain", &id]);
    assert!(explained.out.contains("paid"), "{explained:?}");
    assert_eq!(office.ask(&["runs", "signal", &id, "nobody"]).code, 5);
    let sent = office.ask(&["runs", "signal", &id, "paid", "--payload", "{\"amount\": 7}"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let run = office.json(&["runs", "get", &id, "--wait", "20s"]);
    assert_eq!(run["output"]["amount"], 7);
    let events = office.ask(&["runs", "events", &id]);
    assert!(events.out.contains("signal.received") && events.out.contains("run.completed"), "{}", events.out);
    let followed = office.ask(&["runs", "events", &id, "--follow", "-o", "jsonl"]);
    assert_eq!(followed.out.lines().count(), events.out.lines().count() - 1);
}

#[test]
fn pause_resume_and_cancel_answer_with_the_exit_code_of_their_outcome() {
    let office = Office::open();
    let id = office.start("listening", &[]);
    office.wait_for(&id, "waiting");
    assert_eq!(office.ask(&["runs", "resume", &id]).code, 5);
    assert_eq!(office.ask(&["runs", "pause", &id]).code, 0);
    assert_eq!(office.ask(&["runs", "resume", &id]).code, 0);
    let other = office.start("listening", &[]);
    let cancel = format!("{id}\n{other}\n00000000-0000-7000-8000-000000000000\n");
    let ids = std::fs::File::open(office.desk.write("ids", &cancel)).unwrap();
    let mut command = office.desk.command(&["runs", "cancel", "-", "--reason", "no longer needed"]);
    let ended = Ended::from(command.env("WINDLASS_SERVER", &office.server.url).stdin(ids).output().unwrap());
    assert_eq!(ended.code, 3, "one of the three does not exist: {ended:?}");
    office.wait_for(&id, "canceled");
    office.wait_for(&other, "canceled");
    assert_eq!(office.ask(&["runs", "watch", &id]).code, 1);
    assert_eq!(office.ask(&["runs", "get", "00000000-0000-7000-8000-000000000000"]).code, 3);
}

#[test]
fn waiting_for_a_run_that_does_not_end_runs_out_of_time() {
    let office = Office::open();
    let ended = office.ask(&["runs", "start", "listening", "--wait=1s"]);
    assert_eq!(ended.code, 124, "{ended:?}");
    let ended = office.ask(&["runs", "list", "--status", "nosuch"]);
    assert_eq!((ended.code, ended.err.matches("must be one of").count()), (2, 1), "{ended:?}");
    let ended = office.ask(&["runs", "start", "nowhere"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let ended = office.ask(&["runs", "start", "gated", "-i", "amount=much"]);
    assert_eq!(ended.code, 2, "{ended:?}");
}

#[test]
fn workflows_are_published_listed_shown_and_hidden() {
    let office = Office::open();
    assert_eq!(office.ask(&["workflow", "push", "gated.yaml"]).out, "unchanged gated@1 from gated.yaml\n");
    office.desk.write("gated.yaml", &GATED.replace("amount + 1", "amount + 2"));
    let pushed = office.ask(&["workflow", "push", "gated.yaml", "--tag", "team-a"]);
    assert_eq!(pushed.out, "updated gated@2 from gated.yaml\n", "{pushed:?}");
    assert_eq!(office.ask(&["workflow", "list", "--tag", "team-a", "-o", "id"]).out, "gated\n");
    assert_eq!(office.ask(&["workflow", "versions", "gated", "-o", "id"]).out, "2\n1\n");

    // What is shown can be pushed again.
    let shown = office.ask(&["workflow", "get", "gated@1"]);
    office.desk.write("again.yaml", &shown.out);
    assert_eq!(office.ask(&["workflow", "push", "again.yaml"]).out, "updated gated@3 from again.yaml\n");

    assert_eq!(office.ask(&["workflow", "delete", "gated"]).code, 0);
    assert_eq!(office.ask(&["workflow", "get", "gated"]).code, 3);
}

#[test]
fn a_name_runs_on_the_server_with_its_steps_shown_here() {
    let office = Office::open();
    let args = ["run", "gated", "-i", "amount=1", "--yes", "--user", "bob", "--role", "editor", "--server"];
    let ended = office.desk.run(&[args.as_slice(), &[office.server.url.as_str()]].concat());
    assert_eq!((ended.code, ended.out.as_str()), (0, "next: 2\n"), "{ended:?}");
    let unattended = office.ask(&["run", "gated", "-i", "amount=1"]);
    assert_eq!(unattended.code, 2, "{unattended:?}");
    assert!(unattended.err.contains("go on with: windlass runs approve "), "{}", unattended.err);
}

#[test]
fn a_healthy_server_says_so_and_stops_in_peace() {
    let office = Office::open();
    let health = eventually("readiness", || Some(office.ask(&["healthcheck"])).filter(|it| it.code == 0));
    assert_eq!(health.out, format!("{} is ready\n", office.server.url));
    let id = office.start("listening", &[]);
    office.wait_for(&id, "waiting");
    let Office { desk, server } = office;
    assert_eq!(server.stop(), 0);
    let examined = desk.run(&["doctor", "--db", "dev.db"]);
    assert_eq!(examined.code, 0, "{examined:?}");

    // The run is still there, and still waits.
    let server = desk.dev(&[]);
    let office = Office { desk, server };
    assert_eq!(office.json(&["runs", "get", &id])["status"], "waiting");
}

#[test]
fn a_watched_folder_is_published_as_it_changes() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("flows")).unwrap();
    desk.write("flows/gated.yaml", GATED);
    desk.write("flows/notes.txt", "no definition");
    let server = desk.dev(&["--watch", "flows"]);
    let office = Office { desk, server };
    let version = |wanted: u64| {
        let list = office.json(&["workflow", "list"]);
        (list[0]["version"] == wanted).then_some(())
    };
    eventually("the first version", || version(1));
    office.desk.write("flows/gated.yaml", &GATED.replace("amount + 1", "amount + 2"));
    eventually("the second version", || version(2));
}

#[test]
fn strangers_are_refused_unless_somebody_insists() {
    let desk = Desk::new();
    let refused = desk.run(&["dev", "--listen", "0.0.0.0", "--port", "0"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    insta::assert_snapshot!(steady(&refused.err, &desk.path("")));
    let server = desk.dev(&["--listen", "0.0.0.0", "--i-know-there-is-no-authentication"]);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_database_has_one_owner() {
    let office = Office::open();
    let second = office.desk.run(&["dev", "--port", "0", "--db", "dev.db"]);
    assert_eq!(second.code, 1, "{second:?}");
    let pid = office.server.child.id().to_string();
    assert!(second.err.contains("in use by another process") && second.err.contains(&pid), "{}", second.err);
    // Looking is always allowed.
    assert_eq!(office.desk.run(&["doctor", "--db", "dev.db"]).code, 0);
}

#[test]
fn a_watcher_survives_the_death_of_its_server() {
    let office = Office::open();
    let id = office.start("listening", &[]);
    office.wait_for(&id, "waiting");
    let log = std::fs::File::create(office.desk.path("watch")).unwrap();
    let mut command = office.desk.command(&["runs", "watch", &id, "--server", &office.server.url]);
    let mut watcher = command.stdout(std::process::Stdio::piped()).stderr(log).spawn().unwrap();
    let shown = |office: &Office, part: &str| {
        std::fs::read_to_string(office.desk.path("watch")).unwrap().contains(part).then_some(())
    };
    eventually("the first lines", || shown(&office, "for signal `paid`"));

    let Office { desk, mut server } = office;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let office = Office { server: desk.dev(&["--port", &port]), desk };
    eventually("the loss", || shown(&office, "the connection is lost"));
    assert_eq!(office.ask(&["runs", "signal", &id, "paid", "--payload", "{\"amount\": 7}"]).code, 0);
    let status = eventually("the end", || watcher.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let seen = std::fs::read_to_string(office.desk.path("watch")).unwrap();
    assert_eq!(seen.matches("for signal `paid`").count(), 1, "nothing is shown twice: {seen}");
}

#[test]
fn a_signal_and_its_echo_are_one_request_to_stop() {
    let desk = Desk::new();
    let mut server = desk.dev(&[]);
    // As a supervisor does that signals a process and then its group.
    let twice = format!("kill -s TERM {0}; kill -s TERM {0}", server.child.id());
    assert!(std::process::Command::new("sh").args(["-c", &twice]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_whose_log_cannot_be_written_works_and_stops() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let desk = Desk::new();
    desk.write("listening.yaml", LISTENING);
    let server = desk.dev_logging_to(full.into(), &[]);
    let office = Office { desk, server };
    assert_eq!(office.ask(&["workflow", "push", "listening.yaml"]).code, 0);
    let id = office.start("listening", &[]);
    office.wait_for(&id, "waiting");
    assert_eq!(office.ask(&["runs", "signal", &id, "paid", "--payload", r#"{"amount": 1}"#]).code, 0);
    office.wait_for(&id, "completed");
    assert_eq!(office.server.stop(), 0);
}

#[test]
fn a_database_that_cannot_be_opened_is_told_of_with_its_cause_and_once() {
    let desk = Desk::new();
    let nowhere =
        desk.command(&["migrate"]).env("WINDLASS_DATABASE_URL", "postgres://u:pw@127.0.0.1:1/x").output();
    let nowhere = Ended::from(nowhere.unwrap());
    assert_eq!(nowhere.err.matches("Connection refused").count(), 1, "{nowhere:?}");
    desk.write("text.db", "this is no database, and long enough to be looked at as one");
    let text = desk.run(&["dev", "--port", "0", "--db", "text.db"]);
    assert_eq!(text.err.matches("not a database").count(), 1, "{text:?}");
}

#[test]
fn one_item_of_a_map_is_retried_and_skipped_by_the_name_that_explain_gives_it() {
    let office = Office::open();
    office.publish("mapped", MAPPED);
    let id = office.start("mapped", &[]);
    let both = || {
        let found = office.ask(&["runs", "explain", &id]).out;
        (found.contains("each.do[1]  paused") && found.contains("each.do[2]  paused")).then_some(())
    };
    eventually("two items that need a person", both);
    assert_eq!(office.ask(&["runs", "skip", &id, "each.do"]).code, 2, "which item?");
    let skipped = office.ask(&["runs", "skip", &id, "each.do[1]"]);
    assert_eq!(skipped.code, 0, "{skipped:?}");
    let retried = office.ask(&["runs", "retry", &id, "each.do[2]"]);
    assert_eq!(retried.code, 0, "{retried:?}");
    let items = || office.json(&["runs", "get", &id])["steps"].as_array().unwrap().clone();
    let item = |at: u64| items().into_iter().find(|step| step["item"] == at).unwrap();
    assert_eq!(item(1)["status"], "skipped");
    eventually("its second attempt", || (item(2)["attempt"] == 2).then_some(()));
    let nowhere = office.ask(&["runs", "skip", &id, "each.do[left]"]);
    assert_eq!(nowhere.code, 3, "{nowhere:?}");
}

#[test]
fn after_a_refusal_a_run_that_is_still_paused_asks_again() {
    let office = Office::open();
    office.publish(
        "twofold",
        "version: 1\nname: twofold\ntype: dag\nnodes:\n  left: { type: script, run: exit 3 }\n  right: { type: script, run: exit 3 }\n",
    );
    let args = ["run", "twofold", "--server", &office.server.url];
    // Somebody else is faster at the first step.
    let faster = |question| {
        if question == 0 {
            let id = eventually("both to have failed", || {
                let id =
                    office.ask(&["runs", "list", "--status", "paused", "-o", "id"]).out.trim().to_owned();
                let found = office.ask(&["runs", "explain", &id]).out;
                (found.matches("  paused  ").count() == 2).then_some(id)
            });
            let skipped = office.ask(&["runs", "skip", &id, "left"]);
            assert_eq!(skipped.code, 0, "{skipped:?}");
        }
    };
    let question = "[r]etry, [s]kip, [c]ancel the run:";
    let ended = at_a_terminal_while(&office.desk, &args, &[(question, "s"), (question, "s")], faster);
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(ended.out.contains("refused:"), "{}", ended.out);
}

#[test]
fn a_run_some_of_whose_items_failed_does_not_look_like_any_other() {
    let office = Office::open();
    let tolerant = MAPPED
        .replace("      on_error: pause\n", "")
        .replace("max_parallel: 3", "max_parallel: 3\n    tolerate: { failed_count: 2 }");
    office.publish("mapped", &tolerant);
    let ended = office.ask(&["run", "mapped"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("(partial_failure)"), "{}", ended.err);
    let id = office.ask(&["runs", "list", "-o", "id"]).out.trim().to_owned();
    let shown = office.ask(&["runs", "get", &id]).out;
    for part in
        ["outcome    partial_failure", "2 of 3 items failed", "each.do[0]", "each.do[1]", "each.do[2]"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let events = office.ask(&["runs", "events", &id]).out;
    assert!(events.contains("each.do[2]"), "{events}");
}

const DOOR: &str = r#"
version: 1
name: door
type: machine
events: { OPEN: { type: object, required: [by] }, LOCK: {} }
initial: closed
states:
  closed: { on: { OPEN: open, LOCK: locked } }
  open: { type: final }
  locked: { type: final }
"#;

#[test]
fn a_machine_says_where_it_stands_and_what_may_be_sent_to_it() {
    let office = Office::open();
    office.publish("door", DOOR);
    let log = std::fs::File::create(office.desk.path("run")).unwrap();
    let mut command = office.desk.command(&["run", "door", "--server", &office.server.url]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap();
    let seen = || std::fs::read_to_string(office.desk.path("run")).unwrap();
    eventually("the commands", || seen().contains("waits for `LOCK`").then_some(()));
    let id = office.ask(&["runs", "list", "-o", "id"]).out.trim().to_owned();
    let server = &office.server.url;
    for part in [
        "◆ closed\n".to_owned(),
        format!("windlass runs signal {id} OPEN --payload JSON --server {server}\n"),
        format!("windlass runs signal {id} LOCK --server {server}\n"),
    ] {
        assert!(seen().contains(&part), "{part}: {}", seen());
    }
    let shown = office.ask(&["runs", "get", &id]).out;
    assert!(shown.contains("state      closed\nevents     LOCK, OPEN\n"), "{shown}");
    assert_eq!(office.ask(&["runs", "signal", &id, "LOCK"]).code, 0);
    assert_eq!(eventually("the end", || child.try_wait().unwrap()).code(), Some(0));
    let ended = office.ask(&["runs", "get", &id]).out;
    assert!(ended.contains("state      locked\n") && !ended.contains("\nevents "), "{ended}");
}

#[test]
fn a_step_that_is_not_there_is_not_found() {
    let office = Office::open();
    let id = office.start("gated", &["-i", "amount=12"]);
    office.wait_for(&id, "waiting");
    for args in [
        &["runs", "approve", &id, "zz"][..],
        &["runs", "reject", &id, "zz", "--attempt", "1"],
        &["runs", "skip", &id, "zz"],
        &["runs", "skip", &id, "zz[1]"],
        &["runs", "retry", &id, "zz"],
        &["runs", "rerun", &id, "--from", "zz"],
    ] {
        let ended = office.ask(args);
        assert_eq!(ended.code, 3, "{args:?}: {ended:?}");
    }
    // This one is there, and waits for nobody.
    let after = office.ask(&["runs", "approve", &id, "after"]);
    assert_eq!(after.code, 5, "{after:?}");
}

#[test]
fn a_run_cannot_start_in_the_past_and_is_told_so() {
    let office = Office::open();
    for when in ["--start-at", "--deadline"] {
        let ended = office.ask(&["runs", "start", "listening", when, "-2h"]);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains("`-2h` is negative"), "{}", ended.err);
    }
}

#[test]
fn yes_fills_in_no_form_and_says_who_can() {
    let office = Office::open();
    office.publish(
        "formal",
        "version: 1\nname: formal\ntype: steps\nsteps:\n  - { id: ask, type: approval, form: { type: object, required: [note] } }\n",
    );
    let ended = office.ask(&["run", "formal", "--yes"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    let id = office.ask(&["runs", "list", "-o", "id"]).out.trim().to_owned();
    let hint = format!("go on with: windlass runs approve {id} ask --form JSON\n");
    assert!(ended.err.contains("which --yes cannot fill in") && ended.err.contains(&hint), "{}", ended.err);
    assert_eq!(office.ask(&["runs", "approve", &id, "ask", "--form", r#"{"note": "fine"}"#]).code, 0);
}
