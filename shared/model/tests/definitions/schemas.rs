//! JSON Schemas at the door, and the schema of the format itself.

use serde_json::{Value, json};
use windlass_model::workflow::format_schema;
use windlass_model::workflow::schema::{Schema, VIOLATIONS_MAX};
use windlass_model::workflow::{Document, Format};

use crate::support::catalog;

fn violations(schema: Value, value: Value) -> Vec<(String, String)> {
    let violations = Schema::compile(schema).unwrap().check(&value);
    violations.into_iter().map(|violation| (violation.pointer, violation.detail)).collect()
}

#[test]
fn violations_have_pointers_and_do_not_repeat_the_value() {
    let schema = json!({
        "type": "object",
        "required": ["ids"],
        "properties": {
            "ids": { "type": "array", "items": { "type": "string", "pattern": "^[a-z]+$" }, "maxItems": 3 },
            "n": { "type": "integer", "minimum": 1 },
            "a/b": { "enum": ["x", "y"] },
            "either": { "anyOf": [{ "required": ["p"] }, { "required": ["q"] }] }
        },
        "additionalProperties": false
    });
    let value = json!({
        "ids": ["ok", "s3cret-Value", 5, "ok"], "n": 0, "a/b": "s3cret", "either": {}, "extra": 1
    });
    let found = violations(schema.clone(), value);
    assert!(found.iter().all(|(_, detail)| !detail.contains("s3cret")), "{found:#?}");
    insta::with_settings!({ omit_expression => true }, { insta::assert_json_snapshot!(found) });
    assert_eq!(violations(schema, json!({})), [("".into(), "`ids` is missing".into())]);
}

#[test]
fn defaults_fill_what_an_object_lacks_and_nothing_else() {
    let schema = Schema::compile(json!({
        "type": "object",
        "properties": { "limit": { "default": 200 }, "on": { "default": false }, "name": {} }
    }))
    .unwrap();
    let mut value = json!({ "on": null });
    schema.fill_defaults(&mut value);
    assert_eq!(value, json!({ "on": null, "limit": 200 }));
    let mut list = json!([]);
    schema.fill_defaults(&mut list);
    assert_eq!(list, json!([]));
}

#[test]
fn a_report_is_bounded_however_large_the_value() {
    let schema = json!({ "type": "array", "items": { "type": "integer" } });
    let some: Vec<Value> = (0..10_000).map(|_| json!("x")).collect();
    assert_eq!(violations(schema.clone(), Value::Array(some)).len(), VIOLATIONS_MAX);
    let many: Vec<Value> = (0..100_000).map(|_| json!("x")).collect();
    assert_eq!(violations(schema, Value::Array(many)).len(), 1);
}

#[test]
fn schemas_that_reach_outside_or_never_end_are_refused() {
    let doubling: serde_json::Map<String, Value> = (0..14)
        .map(|at| {
            let next = json!({ "$ref": format!("#/$defs/d{}", at + 1) });
            (format!("d{at}"), json!({ "allOf": [next, next] }))
        })
        .chain([("d14".to_owned(), json!({ "type": "string" }))])
        .collect();
    let patterns: serde_json::Map<String, Value> =
        (0..200).map(|at| (format!("p{at}"), json!({ "pattern": "^(a|b){900}$" }))).collect();
    let mut deep = json!({ "type": "string" });
    for _ in 0..120 {
        deep = json!({ "items": deep });
    }
    for (schema, reason) in [
        (json!({ "$ref": "https://example.com/x.json" }), "can only point into this schema"),
        (json!({ "$ref": "file:///etc/passwd" }), "can only point into this schema"),
        (json!({ "properties": { "a": { "$ref": "#" } } }), "recursive"),
        (json!({ "$ref": "#/$defs/a", "$defs": { "a": { "not": { "$ref": "#/$defs/a" } } } }), "recursive"),
        (json!({ "$ref": "#/$defs/none" }), "does not exist"),
        (json!({ "$dynamicRef": "#x" }), "not supported"),
        (json!({ "$ref": "#/$defs/d0", "$defs": doubling }), "unfolds"),
        (json!({ "properties": patterns }), "patterns"),
        (json!({ "pattern": "x".repeat(501) }), "500 characters"),
        (json!({ "pattern": "(((a{100}){100}){100}){100}" }), ""),
        (json!({ "pattern": "(" }), ""),
        (json!({ "pattern": "(?=a)" }), ""),
        (json!({ "$schema": "http://json-schema.org/draft-04/schema#" }), "$schema"),
        (json!({ "type": "strnig" }), ""),
        (deep, "nests deeper"),
        (json!("text"), "is an object"),
    ] {
        let refusal = Schema::compile(schema.clone()).err().unwrap_or_else(|| panic!("accepted: {schema}"));
        assert!(refusal.contains(reason), "{refusal}");
        assert!(refusal.len() < 400, "{refusal}");
    }
}

#[test]
fn a_pattern_takes_time_in_proportion_to_the_text() {
    let schema = Schema::compile(json!({ "pattern": "^(a+)+$" })).unwrap();
    assert_eq!(schema.check(&Value::String(format!("{}!", "a".repeat(1_000_000)))).len(), 1);
}

#[test]
fn the_schema_of_the_format_accepts_what_the_compiler_accepts() {
    // Unlike a definition's own schemas it is recursive: states lie within states.
    let schema = jsonschema::validator_for(&format_schema(&catalog())).unwrap();
    let is_valid = |yaml: &str| schema.is_valid(&Document::parse(yaml, Format::Yaml).unwrap().spec);
    for good in [
        include_str!("good/large.yaml"),
        include_str!("good/order.yaml"),
        "{version: 1, name: a, type: steps, steps: [{id: a, type: http, with: '${{ inputs.request }}'}]}",
        "{version: 1, name: a, type: machine, initial: a, states: {a: {dag: [{id: x, type: noop}], on_done: b}, b: {type: final}}}",
    ] {
        assert!(is_valid(good), "{good}");
        crate::support::good(good);
    }
    for broken in [
        "{version: 1, name: a, type: steps}",
        "{version: 1, name: a, type: steps, steps: [{type: noop}]}",
        "{version: 1, name: a, type: dag, nodes: {a: {type: noop, wrong: 1}}}",
        "{version: 1, name: a, type: dag, nodes: {a: {type: http, with: {}}}}",
        "{version: 1, name: a, type: dag, nodes: {a: {type: nop}}}",
        "{version: 1, name: a, type: dag, nodes: {a: {type: noop}}, extra: 1}",
        "{version: 1, name: a, type: dag, nodes: {a: {type: noop, compensate: {type: noop, on_error: fail}}}}",
        "{version: 1, name: a, type: dag, on_error: retry, nodes: {a: {type: noop}}}",
        "{version: 1, name: a, type: dag, error_handlers: [{action: {type: retry, do: {type: noop}}}], nodes: {a: {type: noop}}}",
        "{version: 1, name: a, type: machine, initial: a}",
        "{version: 1, name: a, type: machine, initial: a, states: {a: {wrong: 1}}}",
        "{version: 1, name: a, type: machine, initial: a, states: {a: {states: {b: {on: {GO: {to: a}}}}}}}",
        "{version: 1, name: a, type: machine, initial: a, states: {a: {invoke: {type: noop, if: true}}}}",
        "{version: 1, name: a, type: machine, initial: a, states: {a: {entry: {shout: 1}}}}",
        "{version: 1, name: a, type: machine, initial: a, states: {a: {dag: [{type: noop}]}}}",
    ] {
        assert!(!is_valid(broken), "{broken}");
    }
}
