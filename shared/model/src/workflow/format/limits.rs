//! The part of the format's JSON Schema that says how many runs and calls there may be.

use serde_json::{Value, json};

use crate::concurrency::{OnConflict, PLACES_MAX};
use crate::rate_limit::{OnLimit, TURNS_MAX};

pub(super) fn concurrency() -> Value {
    json!({
        "description": "How many runs of one group may be under way",
        "type": "object",
        "properties": {
            "group": {
                "description": "Names the group of a run, from its inputs, `run` and `run.labels`; runs of all workflows that give the same name share it",
                "type": "string"
            },
            "max": {
                "description": "How many may be under way; 1 when absent",
                "type": "integer",
                "minimum": 1,
                "maximum": PLACES_MAX
            },
            "on_conflict": {
                "description": "When there are as many. queue: a new run waits for its turn. reject: there is no new run. cancel_running: older ones are canceled first",
                "enum": OnConflict::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>()
            }
        },
        "required": ["group"],
        "additionalProperties": false
    })
}

pub(super) fn rate_limit(turns: &str, description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": {
            turns: { "description": "So many in each period, evenly", "type": "integer", "minimum": 1, "maximum": TURNS_MAX },
            "per": { "description": "The period: from a second to 31 days", "$ref": "#/$defs/duration" },
            "burst": {
                "description": "So many may come at once after a while without any; as many as in a period when absent",
                "type": "integer",
                "minimum": 1,
                "maximum": TURNS_MAX
            },
            "on_limit": {
                "description": "wait: what is one too many waits for its turn. reject: it is refused with rate.limited",
                "enum": OnLimit::ALL.iter().map(|(word, _)| *word).collect::<Vec<_>>()
            }
        },
        "required": [turns, "per"],
        "additionalProperties": false
    })
}
