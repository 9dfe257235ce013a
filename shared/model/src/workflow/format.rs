//! The JSON Schema of the definition format, for editors.

mod callees;
mod limits;
mod machine;

use serde_json::{Map, Value, json};

use super::catalog::gate_schema;
use super::validate::{self, COMMON_KEYS, action_words};
use super::{Catalog, KindSpec};

/// The JSON Schema of definitions that use the kinds of `catalog`.
///
/// Editors complete and check with it. What it cannot say (cycles, what expressions read) only
/// [`super::compile`] finds.
pub fn format_schema(catalog: &Catalog) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Windlass workflow",
        "type": "object",
        "properties": top_properties(),
        "required": ["version", "name", "type"],
        "additionalProperties": false,
        "allOf": [
            { "if": of_type(&["steps"]), "then": { "required": ["steps"] } },
            { "if": of_type(&["dag"]), "then": { "required": ["nodes"] } },
            { "if": of_type(&["machine", "state_machine", "hybrid"]), "then": { "required": ["initial", "states"] } }
        ],
        "$defs": definitions(catalog),
    })
}

fn of_type(types: &[&str]) -> Value {
    json!({ "properties": { "type": { "enum": types } }, "required": ["type"] })
}

fn top_properties() -> Value {
    let mut properties = node_properties();
    let map = properties.as_object_mut().expect("written as an object");
    map.extend(callees::top_properties());
    map.extend(machine::top_properties());
    properties
}

fn node_properties() -> Value {
    json!({
        "version": { "description": "Version of this format", "const": 1 },
        "name": {
            "description": "Names the workflow in URLs and on the command line",
            "type": "string",
            "pattern": "^[a-z][a-z0-9_-]{0,62}$"
        },
        "type": {
            "description": "steps: one after the other. dag: as soon as what a node needs has ended. machine: states, and events that lead from one to another. hybrid: the same, with graphs in its states",
            "enum": ["steps", "dag", "machine", "state_machine", "hybrid"]
        },
        "description": text("What the workflow is for", validate::DESCRIPTION_CHARS_MAX),
        "tags": {
            "description": "To find the workflow by",
            "type": "array",
            "items": { "type": "string", "pattern": "^[A-Za-z0-9_.:/-]{1,64}$" },
            "maxItems": validate::TAGS_MAX
        },
        "inputs": { "description": "JSON Schema of the run's inputs", "type": ["object", "boolean"] },
        "outputs": { "description": "The run's output; expressions may read any node" },
        "on_error": { "$ref": "#/$defs/on_error" },
        "error_handlers": error_handlers(),
        "compensation": compensation(),
        "concurrency": limits::concurrency(),
        "rate_limit": limits::rate_limit("runs", "How many runs of the workflow may start within a period"),
        "defaults": {
            "description": "What holds for every node that does not say otherwise",
            "type": "object",
            "properties": {
                "timeout": { "$ref": "#/$defs/duration" },
                "retry": { "$ref": "#/$defs/retry" },
                "on_error": { "$ref": "#/$defs/on_error" }
            },
            "additionalProperties": false
        },
        "timeout": { "description": "How long a run may take", "$ref": "#/$defs/duration" },
        "steps": { "description": "With type: steps", "$ref": "#/$defs/nodes" },
        "nodes": { "description": "With type: dag", "$ref": "#/$defs/nodes" },
        "edges": {
            "description": "Another way to say `needs`",
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "from": { "$ref": "#/$defs/id" },
                    "to": { "$ref": "#/$defs/id" },
                    "when": { "$ref": "#/$defs/condition" }
                },
                "required": ["from", "to"],
                "additionalProperties": false
            }
        }
    })
}

fn definitions(catalog: &Catalog) -> Value {
    let mut definitions = common_definitions(catalog);
    let map = definitions.as_object_mut().expect("written as an object");
    map.extend(callees::definitions(catalog));
    map.extend(machine::definitions());
    definitions
}

fn common_definitions(catalog: &Catalog) -> Value {
    json!({
        "id": { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}$" },
        "duration": {
            "description": "30s, 5m, 48h, 7d, 1h30m or PT30S",
            "type": "string",
            "examples": ["30s", "5m", "48h", "7d"]
        },
        "expression": {
            "description": "An expression; its value must have the right type",
            "type": "string",
            "pattern": "\\$\\{\\{"
        },
        "condition": {
            "description": "An expression, with or without ${{ }}",
            "type": ["string", "boolean"]
        },
        "retry": retry(),
        "backoff": backoff(),
        "pattern": { "type": "string", "pattern": "^(\\*|[a-z][a-z0-9_.-]*\\*?)$" },
        "patterns": {
            "description": "Names of errors: timeout, http.503, http.5xx, http.*, *",
            "type": "array",
            "items": { "$ref": "#/$defs/pattern" },
            "minItems": 1
        },
        "on_error": on_error(action_arguments()),
        "on_error_of_node": on_error(with_fallback_node(action_arguments())),
        "gate": gate(),
        "needs": needs(),
        "nodes": {
            "anyOf": [
                {
                    "type": "object",
                    "propertyNames": { "$ref": "#/$defs/id" },
                    "additionalProperties": { "$ref": "#/$defs/node" },
                    "minProperties": 1
                },
                {
                    "type": "array",
                    "items": { "$ref": "#/$defs/node", "required": ["id"] },
                    "minItems": 1
                }
            ]
        },
        "node": node(catalog, "on_error_of_node", &[]),
        "fallback_node": node(catalog, "on_error", &["id", "needs", "if"]),
        "undoing_node": node(
            catalog,
            "on_error",
            &["id", "needs", "if", "on_error", "compensate", "output_schema"],
        ),
        "item_node": node(catalog, "on_error_of_node", &["id", "needs", "approval"]),
        "body": body(Map::new()),
        "item_body": body(beside_items()),
        "step_list": {
            "description": "Steps, one after the other",
            "type": "array",
            "items": { "$ref": "#/$defs/node", "required": ["id"] },
            "minItems": 1
        },
        "invocation": invocation(catalog),
        "kind_keys": { "allOf": catalog.iter().map(keys_of_kind).collect::<Vec<Value>>() },
    })
}

fn retry() -> Value {
    json!({
        "description": "How often, for which errors and with which pauses a node is tried again",
        "type": "object",
        "properties": {
            "max_attempts": {
                "description": "Attempts in all, the first one included",
                "type": "integer",
                "minimum": 1,
                "maximum": crate::retry::ATTEMPTS_MAX
            },
            "errors": { "$ref": "#/$defs/patterns" },
            "backoff": { "$ref": "#/$defs/backoff" }
        },
        "additionalProperties": false
    })
}

fn backoff() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "enum": ["fixed", "linear", "exponential"] },
            "initial": { "$ref": "#/$defs/duration" },
            "factor": { "type": "number", "minimum": 1, "maximum": 100 },
            "max": { "$ref": "#/$defs/duration" },
            "jitter": { "enum": ["none", "full", "equal"] }
        },
        "additionalProperties": false
    })
}

/// What stands beside `action` in a rule, or beside `type` in a handler's action.
fn action_arguments() -> Value {
    let mut arguments = json!({
        "max_attempts": {
            "description": "With retry: attempts in all, the first one included",
            "type": "integer",
            "minimum": 1,
            "maximum": crate::retry::ATTEMPTS_MAX
        },
        "backoff": { "description": "With retry", "$ref": "#/$defs/backoff" },
        "output": { "description": "With continue or fallback: what the node's output shall be" }
    });
    // With escalate: the gate where people decide.
    if let (Some(arguments), Some(gate)) = (arguments.as_object_mut(), gate()["properties"].as_object()) {
        arguments.extend(gate.clone());
    }
    arguments
}

/// Only a node itself can say which node takes its place.
fn with_fallback_node(mut arguments: Value) -> Value {
    arguments["do"] = json!({
        "description": "With fallback: the node that does it in another way",
        "$ref": "#/$defs/fallback_node"
    });
    arguments
}

fn on_error(mut rule: Value) -> Value {
    rule["match"] = json!({ "$ref": "#/$defs/patterns" });
    rule["action"] = json!({ "enum": action_words() });
    json!({
        "description": "What a failure does once no retry is left; the first rule that matches decides",
        "anyOf": [
            { "enum": ["pause", "continue", "skip", "fail", "compensate", "escalate"] },
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": rule,
                    "required": ["match", "action"],
                    "additionalProperties": false
                }
            }
        ]
    })
}

fn error_handlers() -> Value {
    let mut action = action_arguments();
    action["type"] = json!({ "enum": action_words() });
    json!({
        "description": "Rules for the errors of many nodes, after a node's own",
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "node_pattern": {
                    "description": "Ids of nodes; * stands for any characters. All nodes when absent",
                    "type": "string",
                    "pattern": "^[A-Za-z0-9_.*-]{1,128}$"
                },
                "error_type": {
                    "description": "Which errors; all when absent",
                    "anyOf": [{ "$ref": "#/$defs/pattern" }, { "$ref": "#/$defs/patterns" }]
                },
                "action": {
                    "anyOf": [
                        { "enum": ["pause", "continue", "skip", "fail", "compensate", "escalate"] },
                        {
                            "type": "object",
                            "properties": action,
                            "required": ["type"],
                            "additionalProperties": false
                        }
                    ]
                }
            },
            "required": ["action"],
            "additionalProperties": false
        }
    })
}

fn compensation() -> Value {
    json!({
        "description": "When what nodes did is undone by their `compensate`, and in which order",
        "type": "object",
        "properties": {
            "when": {
                "description": "Ends of a run after which it is; both when absent",
                "type": "array",
                "items": { "enum": ["failed", "canceled"] }
            },
            "order": {
                "description": "reverse: what was done last is undone first. declared: as the nodes stand here",
                "enum": ["reverse", "declared", "parallel"]
            }
        },
        "additionalProperties": false
    })
}

/// The gate in front of a node: that of an approval node, and its time.
fn gate() -> Value {
    let mut gate = gate_schema();
    gate["description"] = "People who must agree before the node runs".into();
    gate["properties"]["timeout"] = json!({ "$ref": "#/$defs/duration" });
    gate
}

fn needs() -> Value {
    json!({
        "description": "Nodes that must have ended before this one starts",
        "anyOf": [
            { "$ref": "#/$defs/id" },
            {
                "type": "array",
                "items": {
                    "anyOf": [
                        { "$ref": "#/$defs/id" },
                        {
                            "type": "object",
                            "properties": {
                                "node": { "$ref": "#/$defs/id" },
                                "accept": {
                                    "type": "array",
                                    "items": { "enum": ["succeeded", "skipped", "failed"] },
                                    "minItems": 1
                                }
                            },
                            "required": ["node"],
                            "additionalProperties": false
                        }
                    ]
                }
            }
        ]
    })
}

/// A node, `without` the keys that have no place where it stands.
fn node(catalog: &Catalog, on_error: &str, without: &[&str]) -> Value {
    let kinds: Vec<&str> = catalog.iter().map(|kind| kind.name).collect();
    let mut properties = common_properties(&kinds, on_error);
    if let Some(properties) = properties.as_object_mut() {
        properties.retain(|key, _| !without.contains(&key.as_str()));
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": ["type"],
        "allOf": [{ "$ref": "#/$defs/kind_keys" }, { "$ref": "#/$defs/host_keys" }],
        "unevaluatedProperties": false
    })
}

/// What a body may say beside its nodes, where it is run for each item.
fn beside_items() -> Map<String, Value> {
    let mut keys = common_properties(&[], "on_error_of_node");
    let without = ["id", "type", "needs", "approval", "retry_safe"];
    keys.as_object_mut()
        .map(std::mem::take)
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| !without.contains(&key.as_str()))
        .collect()
}

/// A node of a state: some keys mean nothing there, and others something of their own.
fn invocation(catalog: &Catalog) -> Value {
    let mut invocation = node(catalog, "on_error", &["needs", "if", "on_error", "compensate"]);
    if let Some(properties) = invocation["properties"].as_object_mut() {
        properties.extend(machine::invocation_properties());
    }
    invocation
}

fn common_properties(kinds: &[&str], on_error: &str) -> Value {
    let properties = json!({
        "id": { "$ref": "#/$defs/id" },
        "type": { "description": "The kind of node", "enum": kinds },
        "name": { "type": "string" },
        "description": text("What the node is for", validate::DESCRIPTION_CHARS_MAX),
        "needs": { "$ref": "#/$defs/needs" },
        "if": { "description": "The node is skipped when this is false", "$ref": "#/$defs/condition" },
        "timeout": { "description": "How long one attempt may take", "$ref": "#/$defs/duration" },
        "retry": { "$ref": "#/$defs/retry" },
        "on_error": { "$ref": format!("#/$defs/{on_error}") },
        "approval": { "$ref": "#/$defs/gate" },
        "retry_safe": {
            "description": "Whether an attempt of unknown outcome may be repeated without asking",
            "type": "boolean"
        },
        "output_schema": {
            "description": "JSON Schema of the output; one that breaks it fails as schema.output",
            "type": ["object", "boolean"]
        },
        "compensate": {
            "description": "The node that undoes what this one did, should the run fail or be canceled later",
            "$ref": "#/$defs/undoing_node"
        }
    });
    debug_assert!(COMMON_KEYS.iter().all(|key| properties.get(key).is_some()));
    properties
}

/// `if type is http then these keys`.
fn keys_of_kind(kind: &KindSpec) -> Value {
    let mut keys = (kind.params)();
    if let Some(map) = keys.as_object_mut() {
        // Each kind would otherwise refuse the keys that every node has.
        map.remove("additionalProperties");
        map.insert("description".into(), kind.summary.into());
        each_subschema(map, or_expression);
        // What stands inside is a node, which the kind itself cannot say.
        if let Some(keys) = map.get_mut("properties").and_then(Value::as_object_mut) {
            bodies(kind.name, keys);
        }
    }
    json!({
        "if": { "properties": { "type": { "const": kind.name } }, "required": ["type"] },
        "then": keys
    })
}

fn bodies(kind: &str, keys: &mut Map<String, Value>) {
    if let Some(body) = keys.get_mut("do") {
        *body = json!({
            "description": "The node, or the nodes, that are run for each item",
            "anyOf": [
                { "$ref": "#/$defs/item_node" },
                { "$ref": "#/$defs/item_body" },
                { "$ref": "#/$defs/step_list" }
            ]
        });
    }
    if let Some(branches) = keys.get_mut("branches") {
        *branches = json!({
            "description": "What runs side by side, by name",
            "type": "object",
            "propertyNames": { "$ref": "#/$defs/id" },
            "additionalProperties": { "anyOf": [{ "$ref": "#/$defs/body" }, { "$ref": "#/$defs/step_list" }] },
            "minProperties": 1,
            "maxProperties": validate::BRANCHES_MAX
        });
    }
    if kind == "machine" {
        let of_top = ["outputs", "defaults"].map(|key| (key.to_owned(), node_properties()[key].clone()));
        keys.extend(machine::top_properties().into_iter().chain(of_top));
    }
}

/// Nodes that a node runs as a run of its own, and `beside` them what may be said of that node.
fn body(mut beside: Map<String, Value>) -> Value {
    for key in ["nodes", "steps", "edges", "outputs", "defaults"] {
        beside.insert(key.into(), node_properties()[key].clone());
    }
    json!({
        "description": "Nodes that are run as a run of their own",
        "type": "object",
        "properties": beside,
        "oneOf": [{ "required": ["nodes"] }, { "required": ["steps"] }],
        "additionalProperties": false
    })
}

/// A string that holds an expression stands for any type.
fn or_expression(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    each_subschema(map, or_expression);
    let takes_any_text = match map.get("type") {
        None => !map.contains_key("enum") && !map.contains_key("const") && !map.contains_key("anyOf"),
        Some(Value::String(kind)) => kind == "string" && !map.contains_key("pattern"),
        Some(kinds) => kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "string")),
    };
    if takes_any_text {
        return;
    }
    let mut either = Map::new();
    // Editors show what stands outermost.
    either.extend(map.remove("description").map(|description| ("description".to_owned(), description)));
    either.insert("anyOf".into(), json!([schema.take(), { "$ref": "#/$defs/expression" }]));
    *schema = Value::Object(either);
}

fn each_subschema(map: &mut Map<String, Value>, change: fn(&mut Value)) {
    for (key, value) in map {
        match (key.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(inner)) => inner.values_mut().for_each(change),
            ("items" | "additionalProperties", inner) => change(inner),
            ("prefixItems", Value::Array(inner)) => inner.iter_mut().for_each(change),
            _ => {}
        }
    }
}

fn text(description: &str, chars_max: usize) -> Value {
    json!({ "description": description, "type": "string", "maxLength": chars_max })
}
