//! JSON that is broken, too deep, too large, or says more than it may (A13, A20, A21, A28, A47).

use serde_json::{Value, json};

use super::Attack;

const RUNS: &str = "/v1/workflow-runs";

fn run(what: &'static str, body: impl Into<Vec<u8>>) -> Attack {
    Attack::post(what, RUNS, "application/json", body)
}

fn malformed(what: &'static str, body: impl Into<Vec<u8>>) -> Attack {
    run(what, body).refused(400, "malformed_json")
}

/// A create with these fields besides the workflow.
fn with(what: &'static str, more: Value) -> Attack {
    let mut body = json!({"workflow": "quick"});
    body.as_object_mut().expect("it is one").extend(more.as_object().expect("it is one").clone());
    run(what, body.to_string())
}

pub(super) fn attacks() -> Vec<Attack> {
    [syntax(), shape(), bounds()].into_iter().flatten().collect()
}

fn syntax() -> Vec<Attack> {
    let deep = |n: usize| format!(r#"{{"workflow": "quick", "inputs": {}{}}}"#, "[".repeat(n), "]".repeat(n));
    vec![
        malformed("a hundred thousand open brackets", "[".repeat(100_000)),
        malformed("nested a hundred thousand deep", deep(100_000)),
        malformed("nested deeper than allowed", deep(70)),
        malformed("objects nested deep", r#"{"a":"#.repeat(10_000)),
        malformed("a key given twice", r#"{"workflow": "quick", "workflow": "quick"}"#),
        malformed("an inner key given twice", r#"{"workflow": "quick", "inputs": {"a": 1, "a": 2}}"#),
        malformed("a lone surrogate", r#"{"workflow": "quick", "inputs": {"a": "\ud800"}}"#),
        malformed("a NUL character", r#"{"workflow": "quick", "inputs": {"a": "\u0000"}}"#),
        malformed("a NUL character in a key", r#"{"workflow": "quick", "inputs": {"\u0000": 1}}"#),
        malformed("a byte order mark", "\u{feff}{\"workflow\": \"quick\"}"),
        malformed("NaN", r#"{"workflow": "quick", "inputs": {"a": NaN}}"#),
        malformed("Infinity", r#"{"workflow": "quick", "inputs": {"a": -Infinity}}"#),
        malformed("a number beyond all bounds", r#"{"workflow": "quick", "inputs": {"a": 1e999}}"#),
        malformed(
            "a number of a million digits",
            format!(r#"{{"workflow": "quick", "inputs": {}}}"#, "9".repeat(1_000_000)),
        ),
        malformed("a comma too many", r#"{"workflow": "quick",}"#),
        malformed("something after the end", r#"{"workflow": "quick"} x"#),
        malformed("cut off", r#"{"workflow": "qui"#),
        malformed("no body", ""),
        malformed("bytes that are no UTF-8", b"{\"workflow\": \"\xff\xfe\"}".to_vec()),
        malformed("a comment", "{\"workflow\": \"quick\"} // please"),
    ]
}

fn shape() -> Vec<Attack> {
    vec![
        run("a list", "[]"),
        run("a list of the right values", r#"["quick"]"#),
        run("null", "null"),
        run("a text", r#""quick""#),
        run("neither workflow nor spec", "{}"),
        with("both workflow and spec", json!({"spec": {}})),
        with("its own tenant", json!({"tenant_id": 2})),
        with("its own status", json!({"status": "completed"})),
        with("its own id", json!({"id": "01890000-0000-7000-8000-000000000000"})),
        with("its own epoch", json!({"epoch": 99})),
        with("its own creation time", json!({"created_at": "2001-01-01T00:00:00Z"})),
        with("its own approval", json!({"approved_by": "eve"})),
        with("a field that looks like a prototype", json!({"__proto__": {"admin": true}})),
        run("a workflow that is a number", r#"{"workflow": 5}"#),
        run("plain text", r#"{"workflow": "quick"}"#)
            .content("text/plain")
            .refused(415, "unsupported_media_type"),
        run("a form", "workflow=quick")
            .content("application/x-www-form-urlencoded")
            .refused(415, "unsupported_media_type"),
        run("XML", "<workflow>quick</workflow>")
            .content("application/xml")
            .refused(415, "unsupported_media_type"),
        run("no content type", r#"{"workflow": "quick"}"#).content("").refused(415, "unsupported_media_type"),
        run("a workflow that does not exist", r#"{"workflow": "nope"}"#).refused(422, "unknown_workflow"),
        run("a version that does not exist", r#"{"workflow": "quick@99"}"#).refused(422, "unknown_workflow"),
    ]
}

fn bounds() -> Vec<Attack> {
    let labels: serde_json::Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect();
    vec![
        with("an urgent priority", json!({"priority": "urgent"})),
        with("a deadline in the past", json!({"deadline": "2001-01-01T00:00:00Z"})),
        with("a deadline in the year 9999", json!({"deadline": "9999-12-31T23:59:59Z"})),
        with("a deadline before it begins", json!({"deadline": "-5s"})),
        with("a deadline that is no time", json!({"deadline": "soon"})),
        with("too many labels", json!({"labels": labels})),
        with("a label with an endless key", json!({"labels": {"k".repeat(64): "v"}})),
        with("a label with an endless value", json!({"labels": {"k": "v".repeat(256)}})),
        with("a label that is a list", json!({"labels": {"k": []}})),
        with("three megabytes of input", json!({"inputs": {"a": "x".repeat(3 << 20)}}))
            .refused(413, "body_too_large"),
        with("ten megabytes of keys", json!({"inputs": (0..600_000).map(|n| (format!("key-{n}"), json!(n))).collect::<serde_json::Map<_, _>>()}))
            .refused(413, "body_too_large"),
    ]
}

impl Attack {
    /// Another content type; none at all when it is empty.
    fn content(mut self, content_type: &'static str) -> Self {
        self.headers.retain(|(name, _)| *name != "Content-Type");
        if content_type.is_empty() { self } else { self.header("Content-Type", content_type) }
    }
}
