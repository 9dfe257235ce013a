//! Tools and agents that are none.

use reqwest::Method;
use serde_json::{Value, json};

use super::Attack;

fn tool(what: &'static str, spec: Value) -> Attack {
    Attack::post(what, "/v1/tools", "application/json", json!({ "spec": spec }).to_string())
        .refused(422, "invalid_workflow")
}

fn yaml(what: &'static str, text: &str) -> Attack {
    Attack::post(what, "/v1/tools", "application/yaml", text).refused(422, "invalid_workflow")
}

fn put(what: &'static str) -> Attack {
    let body = json!({ "spec": { "name": "a", "do": deed() } }).to_string();
    Attack { method: Method::PUT, ..Attack::post(what, "/v1/tools/a", "application/json", body) }
}

fn deed() -> Value {
    json!({ "type": "transform", "output": 1 })
}

pub(super) fn attacks() -> Vec<Attack> {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    vec![
        tool("nothing to do", json!({ "name": "a" })),
        tool("no name", json!({ "do": deed() })),
        tool("a name that climbs", json!({ "name": "../../etc", "do": deed() })),
        tool("a name that is shouted", json!({ "name": "A", "do": deed() })),
        tool("a name without end", json!({ "name": "a".repeat(5_000), "do": deed() })),
        tool("a name that is a number", json!({ "name": 5, "do": deed() })),
        tool("a key that does not exist", json!({ "name": "a", "do": deed(), "sudo": true })),
        tool("a deed that does not exist", json!({ "name": "a", "do": { "type": "shell" } })),
        tool("a deed that is no deed", json!({ "name": "a", "do": { "type": "approval" } })),
        tool("a tool that calls itself", json!({ "name": "a", "do": { "type": "tool", "tool": "a" } })),
        tool("a deed that is text", json!({ "name": "a", "do": "rm -rf /" })),
        tool("a risk without a word", json!({ "name": "a", "risk": 11, "do": deed() })),
        tool("parameters that are a list", json!({ "name": "a", "parameters": [1], "do": deed() })),
        tool(
            "parameters that refer to themselves",
            json!({ "name": "a", "parameters": { "$ref": "#" }, "do": deed() }),
        ),
        tool(
            "a schema from elsewhere",
            json!({ "name": "a", "result": { "$ref": "https://evil.example/s" }, "do": deed() }),
        ),
        tool(
            "a pattern that never ends",
            json!({ "name": "a", "parameters": { "properties": { "x": { "pattern": "x".repeat(9_000) } } }, "do": deed() }),
        ),
        tool(
            "an expression that is none",
            json!({ "name": "a", "do": { "type": "transform", "output": "${{ 1 + }}" } }),
        ),
        tool(
            "an expression that looks at the run",
            json!({ "name": "a", "do": { "type": "transform", "output": "${{ inputs.password }}" } }),
        ),
        tool(
            "values that nest too deep",
            json!({ "name": "a", "do": { "type": "transform", "output": deep } }),
        )
        .refused(400, "malformed_json"),
        yaml("a list", "[1, 2]"),
        yaml("a bomb of aliases", "a: &a [x, x]\nb: &b [*a, *a]\nname: *b\n"),
        yaml("nothing", ""),
        Attack::post("no spec", "/v1/tools", "application/json", "{}"),
        Attack::post("a spec and more", "/v1/agents", "application/json", r#"{"spec": {}, "tenant": 2}"#),
        Attack::post(
            "an agent that is a tool",
            "/v1/agents",
            "application/json",
            json!({ "spec": { "name": "a", "do": deed() } }).to_string(),
        )
        .refused(422, "invalid_workflow"),
        Attack::post("a tool as text", "/v1/tools", "text/plain", "a").refused(415, "unsupported_media_type"),
        put("a change of nobody knows what").refused(428, "precondition_required"),
        put("a change by a weak tag").header("If-Match", "W/\"1\"").refused(400, "invalid_header"),
        put("a change of nothing").header("If-Match", "*").refused(404, "not_found"),
        Attack::get("a name that climbs", "/v1/tools/..%2f..%2fetc").refused(404, "not_found"),
        Attack::get("a name with SQL", "/v1/tools/a'%20or%20'1'='1").refused(404, "not_found"),
        Attack::get("a filter that does not exist", "/v1/tools?tenant=2"),
        Attack::get("a forged cursor", "/v1/agents?cursor=abc").refused(400, "invalid_cursor"),
    ]
}
