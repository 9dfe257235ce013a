//! What the tests of definitions share: a catalog with the kinds that the tests use.

use serde_json::{Value, json};
use windlass_model::Plan;
use windlass_model::callee::CalleeKind;
use windlass_model::workflow::{Catalog, Document, Format, KindSpec, Problem, compile};

/// Kinds shaped like the worker's.
pub(crate) fn catalog() -> Catalog {
    let catalog = Catalog::new([
        KindSpec {
            name: "noop",
            summary: "Does nothing",
            params: || json!({ "type": "object", "properties": {}, "additionalProperties": false }),
            retry_safe: |_| true,
        },
        KindSpec {
            name: "transform",
            summary: "Makes a value from others",
            params: || {
                json!({
                    "type": "object",
                    "properties": { "output": {} },
                    "required": ["output"],
                    "additionalProperties": false
                })
            },
            retry_safe: |_| true,
        },
        KindSpec {
            name: "http",
            summary: "Sends a request",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "with": {
                            "type": "object",
                            "properties": {
                                "method": { "enum": ["GET", "POST"] },
                                "url": { "type": "string" },
                                "headers": { "type": "object", "additionalProperties": { "type": "string" } },
                                "query": { "type": "object" },
                                "json": {},
                                "body": { "type": "string" }
                            },
                            "required": ["url"],
                            "additionalProperties": false
                        }
                    },
                    "required": ["with"],
                    "additionalProperties": false
                })
            },
            retry_safe: |params| params.pointer("/with/method").is_none_or(|method| method == "GET"),
        },
        KindSpec {
            name: "switch",
            summary: "Chooses what runs next",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "cases": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {
                                    "when": { "type": ["string", "boolean"] },
                                    "then": { "type": "array", "items": { "type": "string" } }
                                },
                                "required": ["when", "then"],
                                "additionalProperties": false
                            }
                        },
                        "default": { "type": "array", "items": { "type": "string" } }
                    },
                    "required": ["cases"],
                    "additionalProperties": false
                })
            },
            retry_safe: |_| true,
        },
        KindSpec {
            name: "emit",
            summary: "Tells the world",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "event": {
                            "type": "object",
                            "properties": { "type": { "type": "string" }, "data": {} },
                            "required": ["type"],
                            "additionalProperties": false
                        }
                    },
                    "required": ["event"],
                    "additionalProperties": false
                })
            },
            retry_safe: |_| true,
        },
        caller("tool", || caller_keys("tool")),
        caller("agent", || caller_keys("agent")),
    ]);
    let deeds = ["http", "transform"].map(|name| *catalog.get(name).expect("it is one of these"));
    let mock = KindSpec {
        name: "mock",
        summary: "Answers what is written",
        params: || json!({ "type": "object", "properties": { "answer": {} }, "additionalProperties": false }),
        retry_safe: |_| true,
    };
    catalog.with_deeds(CalleeKind::Tool, deeds.into()).with_deeds(CalleeKind::Agent, vec![mock])
}

fn caller(name: &'static str, params: fn() -> Value) -> KindSpec {
    KindSpec { name, summary: "Calls by name", params, retry_safe: |_| false }
}

fn caller_keys(name: &str) -> Value {
    json!({
        "type": "object",
        "properties": { name: { "type": "string" }, "with": { "type": "object" } },
        "required": [name],
        "additionalProperties": false
    })
}

pub(crate) fn plan(text: &str) -> Result<Plan, Vec<Problem>> {
    compile(&Document::parse(text, Format::Yaml)?, &catalog())
}

pub(crate) fn plan_of(spec: Value) -> Result<Plan, Vec<Problem>> {
    compile(&Document::from_value(spec), &catalog())
}

/// The plan of a definition that has no problems.
pub(crate) fn good(text: &str) -> Plan {
    plan(text).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// The codes of a broken definition's problems, in order.
pub(crate) fn codes(text: &str) -> Vec<&'static str> {
    problems(text).iter().map(|problem| problem.code).collect()
}

pub(crate) fn problems(text: &str) -> Vec<Problem> {
    plan(text).err().unwrap_or_else(|| panic!("this should have problems:\n{text}"))
}
