//! The kinds of node that a definition may use.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::callee::CalleeKind;

/// What a definition may say about nodes of one kind, beside the keys that every node has.
#[derive(Clone, Copy, Debug)]
pub struct KindSpec {
    /// As written in `type:`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// JSON Schema of the kind's own keys. A string that holds an expression stands for any type.
    pub params: fn() -> Value,
    /// Whether an attempt of unknown outcome may be repeated, unless the definition says otherwise.
    pub retry_safe: fn(&Value) -> bool,
}

/// All kinds by name: those the engine itself moves, and those of the worker's runners.
#[derive(Clone, Debug)]
pub struct Catalog {
    kinds: BTreeMap<&'static str, KindSpec>,
    /// What tools and agents can be made of. One namespace with the kinds of node: a name means one set of keys.
    deeds: BTreeMap<CalleeKind, Vec<KindSpec>>,
    trusts_callees: bool,
}

impl Catalog {
    /// The kinds that rules alone move, and the runners' kinds on top.
    pub fn new(runners: impl IntoIterator<Item = KindSpec>) -> Self {
        let kinds = KINDS_OF_RULES.iter().copied().chain(runners).map(|kind| (kind.name, kind)).collect();
        Self { kinds, deeds: BTreeMap::new(), trusts_callees: false }
    }

    /// What callees of this kind may be made of: the types that may stand in their `do`.
    #[must_use]
    pub fn with_deeds(mut self, callee: CalleeKind, deeds: Vec<KindSpec>) -> Self {
        self.deeds.insert(callee, deeds);
        self
    }

    /// For checks away from the server: what a definition calls and does not bring along is taken to exist.
    #[must_use]
    pub fn trusting_callees(mut self) -> Self {
        self.trusts_callees = true;
        self
    }

    pub(super) fn trusts_callees(&self) -> bool {
        self.trusts_callees
    }

    pub fn deeds(&self, callee: CalleeKind) -> &[KindSpec] {
        self.deeds.get(&callee).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, name: &str) -> Option<&KindSpec> {
        self.kinds.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &KindSpec> {
        self.kinds.values()
    }
}

/// Kinds without a runner: rules in `decide` begin and end them.
const KINDS_OF_RULES: &[KindSpec] = &[
    KindSpec {
        name: "wait",
        summary: "Waits for a span or until a time, at no cost",
        params: || {
            json!({
                "type": "object",
                "properties": { "for": { "type": "string" }, "until": { "type": "string" } },
                "oneOf": [{ "required": ["for"] }, { "required": ["until"] }],
                "additionalProperties": false
            })
        },
        retry_safe: |_| true,
    },
    KindSpec {
        name: "signal",
        summary: "Waits for a signal; its output is the signal's payload",
        params: || {
            json!({
                "type": "object",
                "properties": {
                    "name": { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$" },
                    "schema": { "type": ["object", "boolean"] }
                },
                "required": ["name"],
                "additionalProperties": false
            })
        },
        retry_safe: |_| true,
    },
    KindSpec {
        name: "map",
        summary: "Does something for each item of a list",
        params: || {
            json!({
                "type": "object",
                "properties": {
                    "each": {
                        "description": "An expression that gives the list",
                        "type": ["array", "string"]
                    },
                    "as": { "description": "What expressions inside `do` call the item", "type": "string" },
                    "max_parallel": {
                        "description": "How many items run side by side",
                        "type": "integer",
                        "minimum": 1,
                        "maximum": crate::decide::IN_FLIGHT_MAX
                    },
                    "slice": {
                        "description": "How many items one run takes when there are more",
                        "type": "integer",
                        "minimum": 1,
                        "maximum": crate::decide::ITEMS_MAX
                    },
                    "tolerate": {
                        "description": "How many items may fail",
                        "type": "object",
                        "properties": {
                            "failed_count": { "type": "integer", "minimum": 0 },
                            "failed_percent": { "type": "number", "minimum": 0, "maximum": 100 }
                        },
                        "additionalProperties": false
                    },
                    "do": { "description": "The node that is run for each item, or nodes", "type": ["object", "array"] }
                },
                "required": ["each", "do"],
                "additionalProperties": false
            })
        },
        retry_safe: |_| true,
    },
    KindSpec {
        name: "workflow",
        summary: "Starts a run of another workflow and waits for its end; its output is that run's output",
        params: || {
            json!({
                "type": "object",
                "properties": {
                    "workflow": {
                        "description": "Name of a published workflow, or name@version",
                        "type": "string",
                        "maxLength": 255
                    },
                    "with": { "description": "The inputs of the run", "type": "object" }
                },
                "required": ["workflow"],
                "additionalProperties": false
            })
        },
        // Nothing is done before the run is there, and then the log says so.
        retry_safe: |_| true,
    },
    KindSpec {
        name: "loop",
        summary: "Does something again and again, with a bound",
        params: || {
            json!({
                "type": "object",
                "properties": {
                    "while": {
                        "description": "A condition that is asked before each round",
                        "type": ["string", "boolean"]
                    },
                    "until": {
                        "description": "A condition that is asked after each round",
                        "type": ["string", "boolean"]
                    },
                    "max_iterations": {
                        "description": "How many rounds there are at the most",
                        "type": "integer",
                        "minimum": 1,
                        "maximum": crate::decide::ITEMS_MAX
                    },
                    "do": { "description": "The node that is run in each round, or nodes", "type": ["object", "array"] }
                },
                "required": ["max_iterations", "do"],
                "oneOf": [{ "required": ["while"] }, { "required": ["until"] }],
                "additionalProperties": false
            })
        },
        retry_safe: |_| true,
    },
    KindSpec {
        name: "parallel",
        summary: "Runs several bodies side by side; its output has theirs by name",
        params: || {
            json!({
                "type": "object",
                "properties": {
                    "branches": {
                        "description": "What runs side by side, by name: a list of steps, or a mapping with steps or nodes",
                        "type": "object"
                    },
                    "fail_fast": {
                        "description": "The first branch that fails stops the others; true when absent",
                        "type": "boolean"
                    },
                    "max_parallel": {
                        "description": "How many branches run side by side; all when absent",
                        "type": "integer",
                        "minimum": 1,
                        "maximum": crate::decide::IN_FLIGHT_MAX
                    }
                },
                "required": ["branches"],
                "additionalProperties": false
            })
        },
        retry_safe: |_| true,
    },
    KindSpec {
        name: "machine",
        summary: "Runs a state machine; its output is that of the final state",
        params: || {
            json!({
                "type": "object",
                "properties": {
                    "context": {}, "events": {}, "initial": {}, "states": {}, "on": {}, "always": {}, "after": {},
                    "entry": {}, "exit": {}, "invoke": {}, "outputs": {}, "defaults": {}
                },
                "required": ["initial", "states"],
                "additionalProperties": false
            })
        },
        retry_safe: |_| true,
    },
    KindSpec {
        name: "join",
        summary: "Makes one value of many",
        params: || {
            json!({
                "type": "object",
                "properties": {
                    "strategy": { "enum": ["merge", "collect", "reduce", "vote"] },
                    "over": {
                        "description": "An expression that gives a list; the outputs of the needed nodes when absent",
                        "type": ["array", "string"]
                    },
                    "initial": { "description": "With reduce: what it begins with" },
                    "reduce": { "description": "With reduce: what `acc` and `item.value` become" },
                    "quorum": {
                        "description": "With vote: how many must agree; more than half when absent",
                        "anyOf": [{ "const": "majority" }, { "type": "integer", "minimum": 1 }]
                    }
                },
                "required": ["strategy"],
                "additionalProperties": false
            })
        },
        retry_safe: |_| true,
    },
    KindSpec {
        name: "approval",
        summary: "Waits until people approve or reject",
        params: gate_schema,
        retry_safe: |_| true,
    },
];

/// Keys of a gate: of an approval node, and of `approval:` on any other node (which adds `timeout`).
pub fn gate_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "approvers": {
                "type": "object",
                "properties": {
                    "any_of": {
                        "type": "array",
                        "items": { "type": "string", "pattern": "^(user|role):.+$" },
                        "minItems": 1
                    },
                    "min": { "type": "integer", "minimum": 1, "maximum": 100 },
                    "exclude_requester": { "type": "boolean" }
                },
                "additionalProperties": false
            },
            "auto_approve_if": { "type": ["string", "boolean"] },
            "show": {},
            "form": { "type": ["object", "boolean"] },
            "on_timeout": { "enum": ["reject", "approve", "escalate"] }
        },
        "additionalProperties": false
    })
}
