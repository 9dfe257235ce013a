//! The part of the format's JSON Schema that is about state machines.

use serde_json::{Map, Value, json};

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(super) fn top_properties() -> Map<String, Value> {
    members(json!({
        "context": { "description": "What the machine remembers at its start", "type": "object" },
        "events": {
            "description": "What may be sent to the machine: a JSON Schema of what each event brings",
            "type": "object",
            "propertyNames": { "$ref": "#/$defs/event_name" },
            "additionalProperties": { "type": ["object", "boolean"] }
        },
        "initial": { "$ref": "#/$defs/id" },
        "states": { "$ref": "#/$defs/states" },
        "on": { "$ref": "#/$defs/on" },
        "always": { "$ref": "#/$defs/transitions" },
        "after": { "$ref": "#/$defs/after" },
        "entry": { "$ref": "#/$defs/actions" },
        "exit": { "$ref": "#/$defs/actions" },
        "invoke": { "$ref": "#/$defs/invoke" }
    }))
}

/// What a state's node may say beside what every node may say.
pub(super) fn invocation_properties() -> Map<String, Value> {
    members(json!({
        "on_done": { "$ref": "#/$defs/transitions" },
        "on_error": {
            "description": "The first rule that matches the error, and whose guard is true, is taken",
            "anyOf": [
                { "$ref": "#/$defs/target" },
                { "$ref": "#/$defs/caught" },
                { "type": "array", "items": { "anyOf": [{ "$ref": "#/$defs/target" }, { "$ref": "#/$defs/caught" }] } }
            ]
        }
    }))
}

pub(super) fn definitions() -> Map<String, Value> {
    members(json!({
        "event_name": { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$" },
        "target": {
            "description": "A state: `name` beside this one, `.name` within it, `#name.inner` from the top",
            "type": "string"
        },
        "transition": transition(false),
        "caught": transition(true),
        "transitions": {
            "description": "The first whose guard is true is taken",
            "anyOf": [
                { "$ref": "#/$defs/target" },
                { "$ref": "#/$defs/transition" },
                {
                    "type": "array",
                    "items": { "anyOf": [{ "$ref": "#/$defs/target" }, { "$ref": "#/$defs/transition" }] }
                }
            ]
        },
        "on": {
            "type": "object",
            "propertyNames": { "$ref": "#/$defs/event_name" },
            "additionalProperties": { "$ref": "#/$defs/transitions" }
        },
        "after": {
            "description": "What follows once the state was active for so long, such as 20s or 72h",
            "type": "object",
            "additionalProperties": { "$ref": "#/$defs/transitions" }
        },
        "actions": {
            "anyOf": [
                { "$ref": "#/$defs/action" },
                { "type": "array", "items": { "$ref": "#/$defs/action" } }
            ]
        },
        "action": action(),
        "message": {
            "type": "object",
            "properties": { "type": { "type": "string" }, "data": { "description": "Any JSON" } },
            "required": ["type"],
            "additionalProperties": false
        },
        "invoke": {
            "description": "Runs while the state is active",
            "anyOf": [
                { "$ref": "#/$defs/invocation" },
                { "type": "array", "items": { "$ref": "#/$defs/invocation" } }
            ]
        },
        "states": {
            "type": "object",
            "propertyNames": { "$ref": "#/$defs/id" },
            "additionalProperties": { "$ref": "#/$defs/state" },
            "minProperties": 1
        },
        "state": state()
    }))
}

fn transition(is_caught: bool) -> Value {
    let mut transition = json!({
        "type": "object",
        "properties": {
            "target": { "$ref": "#/$defs/target" },
            "guard": { "$ref": "#/$defs/condition" },
            "actions": { "$ref": "#/$defs/actions" },
            "reenter": {
                "description": "Leave the source and enter it again, even when the target lies within it",
                "type": "boolean"
            },
            "description": { "type": "string" }
        },
        "additionalProperties": false
    });
    if is_caught {
        transition["properties"]["match"] = json!({ "$ref": "#/$defs/patterns" });
    }
    transition
}

fn action() -> Value {
    json!({
        "type": "object",
        "properties": {
            "assign": { "description": "Replaces members of the context", "type": "object" },
            "emit": { "description": "Tells the world outside", "$ref": "#/$defs/message" },
            "raise": {
                "description": "Tells the machine itself, before anything that comes from outside",
                "anyOf": [{ "$ref": "#/$defs/event_name" }, { "$ref": "#/$defs/message" }]
            }
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false
    })
}

fn state() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": {
                "description": "parallel: all states in it at once. final: an end. history: where one was before",
                "enum": ["atomic", "compound", "parallel", "final", "history"]
            },
            "description": { "type": "string" },
            "initial": { "$ref": "#/$defs/id" },
            "states": { "$ref": "#/$defs/states" },
            "on": { "$ref": "#/$defs/on" },
            "always": { "$ref": "#/$defs/transitions" },
            "after": { "$ref": "#/$defs/after" },
            "on_done": { "$ref": "#/$defs/transitions" },
            "entry": { "$ref": "#/$defs/actions" },
            "exit": { "$ref": "#/$defs/actions" },
            "on_error": invocation_properties()["on_error"],
            "invoke": { "$ref": "#/$defs/invoke" },
            "dag": {
                "description": "Runs while the state is active; `on_done` and `on_error` follow",
                "anyOf": [{ "$ref": "#/$defs/body" }, { "$ref": "#/$defs/step_list" }]
            },
            "output": { "description": "With final: what the state leaves behind" },
            "history": { "description": "With history", "enum": ["shallow", "deep"] },
            "target": { "description": "With history: where to when there is none yet", "$ref": "#/$defs/target" }
        },
        "additionalProperties": false
    })
}
