//! `windlass doctor` on databases that are healthy, and on databases that are not.

use crate::desk::Desk;
use serde_json::Value;

const HELLO: &str =
    "version: 1\nname: hello\ntype: steps\nsteps:\n  - { id: a, type: noop }\n  - { id: b, type: noop }\n";

fn desk_with_runs() -> Desk {
    let desk = Desk::new();
    desk.write("hello.yaml", HELLO);
    for _ in 0..2 {
        let ended = desk.run(&["run", "hello.yaml", "--db", "runs.db"]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    desk
}

fn findings(desk: &Desk) -> Vec<String> {
    let ended = desk.run(&["doctor", "--db", "runs.db", "-o", "json"]);
    let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
    let kinds: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ended.code, i32::from(!kinds.is_empty()), "{ended:?}");
    assert_eq!(report["runs"], 2);
    kinds
}

fn damage(desk: &Desk, sql: &str) {
    let connection = rusqlite::Connection::open(desk.path("runs.db")).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn one_run_is_not_called_runs() {
    let desk = Desk::new();
    desk.write("one.yaml", "version: 1\nname: one\ntype: steps\nsteps:\n  - { id: a, type: noop }\n");
    assert_eq!(desk.run(&["run", "one.yaml", "--db", "runs.db"]).code, 0);
    let ended = desk.run(&["doctor", "--db", "runs.db"]);
    assert!(ended.err.contains("nothing wrong in 1 run with"), "{ended:?}");
}

#[test]
fn nothing_is_found_in_a_healthy_database() {
    let desk = desk_with_runs();
    assert_eq!(findings(&desk), Vec::<String>::new());
    let ended = desk.run(&["doctor", "--db", "runs.db"]);
    assert!(ended.err.contains("runs.db: nothing wrong in 2 runs with"), "{ended:?}");
}

#[test]
fn a_row_that_is_not_what_its_log_says_is_found() {
    let desk = desk_with_runs();
    damage(
        &desk,
        "update workflow_runs set wake_at = 1, started_at = started_at + 5 where id = (select min(id) from workflow_runs)",
    );
    assert_eq!(findings(&desk), ["row_differs", "row_differs"]);
}

#[test]
fn a_gap_in_a_log_is_found() {
    let desk = desk_with_runs();
    // The database refuses to forget events: take that away first.
    let drop: Vec<String> = {
        let connection = rusqlite::Connection::open(desk.path("runs.db")).unwrap();
        let mut statement =
            connection.prepare("select name from sqlite_master where type = 'trigger'").unwrap();
        let names = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.map(|name| format!("drop trigger {};", name.unwrap())).collect()
    };
    assert!(!drop.is_empty(), "events are guarded by triggers");
    damage(&desk, &drop.concat());
    damage(
        &desk,
        "delete from workflow_run_events where seq = 3 and run_id = (select min(id) from workflow_runs)",
    );
    let found = findings(&desk);
    assert!(found.contains(&"log_gap".to_owned()) && found.contains(&"broken_log".to_owned()), "{found:?}");
}

#[test]
fn a_definition_that_vanished_is_found() {
    let desk = desk_with_runs();
    damage(&desk, "pragma foreign_keys = off; delete from workflow_versions");
    let found = findings(&desk);
    assert!(found.contains(&"dangling_version".to_owned()), "{found:?}");
    assert!(found.contains(&"unreadable_definition".to_owned()), "{found:?}");
}

#[test]
fn a_gate_that_the_inbox_has_lost_is_found() {
    let desk = Desk::new();
    desk.write(
        "gated.yaml",
        "version: 1\nname: gated\ntype: steps\nsteps:\n  - { id: ask, type: approval }\n",
    );
    for _ in 0..2 {
        assert_eq!(desk.run(&["run", "gated.yaml", "--db", "runs.db"]).code, 2);
    }
    assert_eq!(findings(&desk), Vec::<String>::new());
    damage(&desk, "delete from approvals where run_id = (select min(id) from workflow_runs)");
    assert_eq!(findings(&desk), ["approvals_differ"]);
}

#[test]
fn a_large_value_that_changed_or_went_missing_is_found() {
    let desk = Desk::new();
    desk.write("large.yaml", "version: 1\nname: large\ntype: steps\nsteps:\n  - { id: a, type: transform, output: \"${{ inputs }}\" }\n");
    for letter in ["x", "y"] {
        let text = desk.write("inputs.json", &format!("{{\"text\": \"{}\"}}", letter.repeat(100_000)));
        let ended = desk.run(&["run", "large.yaml", "--db", "runs.db", "-f", text.to_str().unwrap()]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_eq!(findings(&desk), Vec::<String>::new());
    damage(&desk, "update blobs set content = zeroblob(size) where digest = (select min(digest) from blobs)");
    assert_eq!(findings(&desk), ["damaged_blob"]);
    damage(&desk, "delete from blobs where digest = (select min(digest) from blobs)");
    assert!(findings(&desk).contains(&"dangling_blob".to_owned()));
}

#[test]
fn a_database_that_is_not_there_is_not_made() {
    let desk = Desk::new();
    let ended = desk.run(&["doctor", "--db", "nowhere.db"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(!desk.path("nowhere.db").exists());
    desk.write("text.db", "this is no database, whatever its name says; it is long enough to be read as one");
    let ended = desk.run(&["doctor", "--db", "text.db"]);
    assert_eq!(ended.code, 1, "{ended:?}");
}
