//! Definitions that are bombs, tricks or nonsense (A20, A22, A42, A47).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Attack;

fn yaml(what: &'static str, text: impl Into<Vec<u8>>) -> Attack {
    Attack::post(what, "/v1/workflows", "application/yaml", text).refused(422, "invalid_workflow")
}

/// A graph with these nodes.
fn graph(what: &'static str, nodes: Value) -> Attack {
    let spec = json!({"version": 1, "name": "bad", "type": "dag", "nodes": nodes});
    Attack::post(what, "/v1/workflows", "application/json", json!({"spec": spec}).to_string())
        .refused(422, "invalid_workflow")
}

/// A serial workflow of one step with these keys.
fn step(what: &'static str, keys: Value) -> Attack {
    let mut node = json!({"id": "a", "type": "noop"});
    node.as_object_mut().expect("it is one").extend(keys.as_object().expect("it is one").clone());
    let spec = json!({"version": 1, "name": "bad", "type": "steps", "steps": [node]});
    Attack::post(what, "/v1/workflows", "application/json", json!({"spec": spec}).to_string())
        .refused(422, "invalid_workflow")
}

pub(super) fn attacks() -> Vec<Attack> {
    [bombs(), tricks(), graphs(), names(), times()].into_iter().flatten().collect()
}

fn head() -> String {
    "version: 1\nname: bad\ntype: steps\n".to_owned()
}

fn bombs() -> Vec<Attack> {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..12 {
        let inner = vec![format!("*a{}", n - 1); 9].join(", ");
        writeln!(laughs, "a{n}: &a{n} [{inner}]").expect("text fits");
    }
    let mut anchors = String::from("steps:\n");
    for n in 0..60_000 {
        writeln!(anchors, "- &b{n} {{}}").expect("text fits");
    }
    let mut many = json!({});
    for n in 0..5_001 {
        many[format!("n{n}")] = json!({"type": "noop"});
    }
    vec![
        yaml("a billion laughs", head() + &laughs),
        yaml("an alias of itself", head() + "steps: &s [*s]\n"),
        yaml("sixty thousand anchors", head() + &anchors),
        yaml("ten thousand brackets", head() + "steps: " + &"[".repeat(10_000)),
        yaml(
            "ten thousand levels of indentation",
            (0..1_200).fold(head(), |text, n| text + &" ".repeat(n) + "a:\n"),
        ),
        yaml(
            "more than a megabyte of text",
            head() + "description: '" + &"x".repeat(1_100_000) + "'\nsteps: []\n",
        ),
        graph("more nodes than allowed", many),
    ]
}

fn tricks() -> Vec<Attack> {
    let ok = "steps: [{ id: a, type: noop }]\n";
    vec![
        yaml("a language object", head() + "steps: !!python/object/apply:os.system ['id']\n"),
        yaml("a tag of its own", head() + "steps: !evil [{ id: a, type: noop }]\n"),
        yaml("a key given twice", head() + "name: other\n" + ok),
        yaml("a merge key", head() + "base: &b { type: noop }\nsteps: [{ id: a, <<: *b }]\n"),
        yaml("a NUL character", head() + "description: \"\\0\"\n" + ok),
        yaml("tabs for indentation", head() + "steps:\n\t- id: a\n"),
        yaml("two documents", head() + ok + "---\n" + &head() + ok),
        yaml("nothing", ""),
        yaml("only a comment", "# hello\n"),
        yaml("a list", "[1, 2, 3]"),
        yaml("bytes that are no UTF-8", b"version: 1\nname: \xff\xfe\n".to_vec())
            .refused(400, "malformed_request"),
        yaml("no steps", head()),
        yaml("no version", "name: bad\ntype: steps\n".to_owned() + ok),
        yaml("a version from the future", "version: 2\nname: bad\ntype: steps\n".to_owned() + ok),
        yaml("a kind that does not exist", head() + "steps: [{ id: a, type: shell }]\n"),
        yaml("a key that does not exist", head() + "steps: [{ id: a, type: noop, sudo: true }]\n"),
        yaml(
            "a type that comes later",
            "version: 1\nname: bad\ntype: hybrid\nnodes: { a: { type: noop } }\n",
        ),
    ]
}

fn graphs() -> Vec<Attack> {
    let noop = |needs: Value| json!({"type": "noop", "needs": needs});
    vec![
        graph(
            "a cycle of three",
            json!({"a": noop(json!(["c"])), "b": noop(json!(["a"])), "c": noop(json!(["b"]))}),
        ),
        graph("a node that needs itself", json!({"a": noop(json!(["a"]))})),
        graph("a need that does not exist", json!({"a": noop(json!(["ghost"]))})),
        graph("the same need twice", json!({"a": {"type": "noop"}, "b": noop(json!(["a", "a"]))})),
        graph("the same node twice", json!([{"id": "a", "type": "noop"}, {"id": "a", "type": "noop"}])),
        graph("no nodes", json!({})),
        graph(
            "a switch to nowhere",
            json!({"s": {"type": "switch", "cases": [{"when": true, "then": ["ghost"]}]}}),
        ),
        graph(
            "a switch to a node that does not wait for it",
            json!({"s": {"type": "switch", "cases": [{"when": true, "then": ["b"]}]}, "b": {"type": "noop"}}),
        ),
        graph(
            "a node that reads what comes later",
            json!({
                "a": {"type": "transform", "output": "${{ nodes.b.output }}"}, "b": noop(json!(["a"]))
            }),
        ),
        graph("a node that is a number", json!({"a": 5})),
    ]
}

fn names() -> Vec<Attack> {
    let node = || json!({"type": "noop"});
    let long = "n".repeat(300);
    let mut attacks: Vec<Attack> =
        ["__proto__", "../x", "a/b", "🦀", "", "a b", "1a", "a\u{202e}b", "a\u{1b}[31m", long.as_str()]
            .into_iter()
            .map(|id| graph("a node of an impossible name", json!({ id: node() })))
            .collect();
    for name in ["../../etc", "UPPER", "a b", "", "-a", "naïve", "x\r\nSet-Cookie: a=b"] {
        let spec =
            json!({"version": 1, "name": name, "type": "steps", "steps": [{"id": "a", "type": "noop"}]});
        let body = json!({"spec": spec}).to_string();
        let attack =
            Attack::post("a workflow of an impossible name", "/v1/workflows", "application/json", body);
        attacks.push(attack.refused(422, "invalid_workflow"));
    }
    attacks
}

fn times() -> Vec<Attack> {
    vec![
        step("a negative timeout", json!({"timeout": "-5s"})),
        step("a timeout of no unit", json!({"timeout": "5"})),
        step("a timeout that is a number", json!({"timeout": 5})),
        step("a timeout of a thousand years", json!({"timeout": "400000d"})),
        step("a million attempts", json!({"retry": {"max_attempts": 1_000_000}})),
        step("no attempt at all", json!({"retry": {"max_attempts": 0}})),
        step(
            "a backoff that shrinks below zero",
            json!({"retry": {"max_attempts": 2, "backoff": {"type": "exponential", "factor": -1}}}),
        ),
        step("a wait of no time", json!({"type": "wait"})),
        step("a wait of two times", json!({"type": "wait", "for": "1s", "until": "2027-01-01T00:00:00Z"})),
        step("an approver of no kind", json!({"type": "approval", "approvers": {"any_of": ["ada"]}})),
        step("a gate that nobody can open", json!({"type": "approval", "approvers": {"min": 0}})),
        step("a form that is no schema", json!({"type": "approval", "form": {"type": "nonsense"}})),
    ]
}
