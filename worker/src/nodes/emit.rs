//! `emit`: tells the outside that something happened.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_engine::{Done, Emit, Failure, Runner, StepContext};
use windlass_model::workflow::KindSpec;

use super::{invalid, params};

/// Longer names are no names.
const TYPE_BYTES_MAX: usize = 128;

pub(crate) struct EmitEvent;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    event: Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Value,
}

#[async_trait]
impl Runner for EmitEvent {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "emit",
            summary: "Tells the outside that something happened, at least once",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "event": {
                            "description": "What to tell",
                            "type": "object",
                            "properties": {
                                "type": { "description": "A dotted name, such as order.expired", "type": "string",
                                          "minLength": 1, "maxLength": TYPE_BYTES_MAX },
                                "data": { "description": "Any JSON" }
                            },
                            "required": ["type"],
                            "additionalProperties": false
                        }
                    },
                    "required": ["event"],
                    "additionalProperties": false
                })
            },
            retry_safe: |_| true,
        }
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let Params { event: Message { kind, data } } = params(&mut step)?;
        if kind.is_empty() || kind.len() > TYPE_BYTES_MAX || kind.chars().any(char::is_control) {
            let sentence =
                format!("`event.type` must have 1 to {TYPE_BYTES_MAX} bytes and no control characters");
            return Err(invalid(sentence).into());
        }
        Ok(Done { output: json!({}), files: Vec::new(), emit: Some(Emit { kind, data }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::{error_of, step};

    #[tokio::test]
    async fn the_message_goes_along_with_the_outcome() {
        let params = json!({ "event": { "type": "order.expired", "data": { "id": 7 } } });
        let done = EmitEvent.run(step(params)).await.unwrap();
        assert_eq!(done.output, json!({}));
        assert_eq!(done.emit, Some(Emit { kind: "order.expired".into(), data: json!({ "id": 7 }) }));
    }

    #[tokio::test]
    async fn a_type_that_would_break_a_line_is_refused() {
        for kind in ["", "a\nid: 7", &"x".repeat(TYPE_BYTES_MAX + 1)] {
            let error = error_of(EmitEvent.run(step(json!({ "event": { "type": kind } }))).await);
            assert_eq!(error.kind, "schema.input", "{kind:?}");
        }
    }
}
