//! The part of the format's JSON Schema that is about tools and agents.

use serde_json::{Map, Value, json};

use super::limits::rate_limit;
use super::{keys_of_kind, text};
use crate::callee::CalleeKind;
use crate::workflow::Catalog;
use crate::workflow::validate::{
    self, CALLEE_CHARS_MAX, CALLEE_KEYS, CALLEES_MAX, CALLERS_KEYS, CALLERS_OF_HOSTS,
};

pub(super) fn top_properties() -> Map<String, Value> {
    let callees = |kind: CalleeKind, description: &str| {
        let schema = json!({
            "description": description,
            "type": "object",
            "propertyNames": { "$ref": "#/$defs/callee_name" },
            "additionalProperties": { "$ref": format!("#/$defs/{}", kind.as_str()) },
            "maxProperties": CALLEES_MAX
        });
        (kind.plural().to_owned(), schema)
    };
    Map::from_iter([
        callees(
            CalleeKind::Tool,
            "Tools that nodes of `type: tool` call, by name, beside those that are registered",
        ),
        callees(
            CalleeKind::Agent,
            "Agents that nodes of `type: agent` call, by name, beside those that are registered",
        ),
    ])
}

pub(super) fn definitions(catalog: &Catalog) -> Map<String, Value> {
    let name = json!({
        "type": "string",
        "pattern": "^[a-z][a-z0-9_-]*(\\.[a-z0-9][a-z0-9_-]*)*$",
        "maxLength": CALLEE_CHARS_MAX
    });
    Map::from_iter([
        ("callee_name".to_owned(), name),
        ("circuit_breaker".to_owned(), circuit_breaker()),
        ("host_keys".to_owned(), host_keys()),
        ("tool".to_owned(), callee(catalog, CalleeKind::Tool)),
        ("agent".to_owned(), callee(catalog, CalleeKind::Agent)),
    ])
}

fn callee(catalog: &Catalog, kind: CalleeKind) -> Value {
    let properties = json!({
        "description": text("What it is for", validate::DESCRIPTION_CHARS_MAX),
        "parameters": { "description": "JSON Schema of `with`, checked before each call", "type": ["object", "boolean"] },
        "result": { "description": "JSON Schema of what it gives back; anything else fails as schema.output",
                    "type": ["object", "boolean"] },
        "risk": { "description": "How much harm a call can do", "enum": ["low", "medium", "high"] },
        "idempotent": {
            "description": "Whether a call of unknown outcome may be repeated with the same idempotency key",
            "type": "boolean"
        },
        "circuit_breaker": { "$ref": "#/$defs/circuit_breaker" },
        "rate_limit": rate_limit(
            "calls", "How often it may be called; shared by all workers and all definitions that bring it along"
        ),
        "do": deed(catalog, kind)
    });
    debug_assert!(CALLEE_KEYS.iter().all(|key| properties.get(key).is_some()));
    json!({ "type": "object", "properties": properties, "required": ["do"], "additionalProperties": false })
}

/// What nodes that call a host by themselves may say as well.
fn host_keys() -> Value {
    let properties = json!({ "circuit_breaker": { "$ref": "#/$defs/circuit_breaker" } });
    debug_assert!(CALLERS_KEYS.iter().all(|key| properties.get(key).is_some()));
    json!({
        "if": { "properties": { "type": { "enum": CALLERS_OF_HOSTS } }, "required": ["type"] },
        "then": { "properties": properties }
    })
}

fn circuit_breaker() -> Value {
    json!({
        "description": "Refuses calls with circuit.open for a while, once so many have failed; shared by all workers. On a node it is for all calls of the host in its URL",
        "type": "object",
        "properties": {
            "failures": { "description": "So many within the window open it; 5 when absent",
                          "type": "integer", "minimum": 1, "maximum": 10_000 },
            "window": { "description": "60s when absent", "$ref": "#/$defs/duration" },
            "cool_down": { "description": "How long it stays open before one call tries; 30s when absent",
                           "$ref": "#/$defs/duration" },
            "errors": { "$ref": "#/$defs/patterns" }
        },
        "additionalProperties": false
    })
}

fn deed(catalog: &Catalog, kind: CalleeKind) -> Value {
    let deeds = catalog.deeds(kind);
    let names: Vec<&str> = deeds.iter().map(|deed| deed.name).collect();
    // What nodes can do as well is described with them.
    let of_nodes = json!({ "$ref": "#/$defs/kind_keys" });
    let own = deeds.iter().filter(|deed| catalog.get(deed.name).is_none()).map(keys_of_kind);
    let keys: Vec<Value> = own.chain([of_nodes]).collect();
    json!({
        "description": "What a call does; its expressions read `parameters`, `secrets` and `run`",
        "type": "object",
        "properties": { "type": { "description": "The kind of deed", "enum": names } },
        "required": ["type"],
        "allOf": keys,
        "unevaluatedProperties": false
    })
}
