//! `switch`: decides which of the nodes that need it go on.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::workflow::KindSpec;

use super::{invalid, params, shown};

pub(crate) struct Switch;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    cases: Vec<Case>,
    #[serde(default)]
    default: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    when: Value,
    then: Vec<String>,
}

#[async_trait]
impl Runner for Switch {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "switch",
            summary: "Lets the branch go on whose condition is the first to be true",
            params: || {
                let ids = |description| json!({ "description": description, "type": "array", "items": { "type": "string" } });
                json!({
                    "type": "object",
                    "properties": {
                        "cases": {
                            "description": "Tried in order", "type": "array", "minItems": 1,
                            "items": {
                                "type": "object",
                                "properties": {
                                    "when": { "description": "An expression that gives true or false",
                                              "type": ["boolean", "string"] },
                                    "then": ids("Ids of the nodes that go on")
                                },
                                "required": ["when", "then"],
                                "additionalProperties": false
                            }
                        },
                        "default": ids("Ids of the nodes that go on when no case is true")
                    },
                    "required": ["cases"],
                    "additionalProperties": false
                })
            },
            retry_safe: |_| true,
        }
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let Params { cases, default } = params(&mut step)?;
        let mut taken = default;
        for (index, case) in cases.into_iter().enumerate() {
            match case.when {
                Value::Bool(true) => {
                    taken = case.then;
                    break;
                }
                Value::Bool(false) => {}
                // `"false"` is text, and text counts as true in too many languages to guess here.
                other => {
                    let given = other.to_string();
                    let sentence =
                        format!("`cases[{index}].when` must give true or false, not `{}`", shown(&given));
                    return Err(invalid(sentence).into());
                }
            }
        }
        Ok(Done::new(json!({ "taken": taken })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::{error_of, step};

    async fn taken(first: Value, second: Value) -> Value {
        let cases = json!([{ "when": first, "then": ["a"] }, { "when": second, "then": ["b", "c"] }]);
        Switch.run(step(json!({ "cases": cases, "default": ["d"] }))).await.unwrap().output
    }

    #[tokio::test]
    async fn the_first_true_case_is_taken_else_the_default_else_nothing() {
        assert_eq!(taken(json!(true), json!(true)).await, json!({ "taken": ["a"] }));
        assert_eq!(taken(json!(false), json!(true)).await, json!({ "taken": ["b", "c"] }));
        assert_eq!(taken(json!(false), json!(false)).await, json!({ "taken": ["d"] }));
        let params = json!({ "cases": [{ "when": false, "then": ["a"] }] });
        assert_eq!(Switch.run(step(params)).await.unwrap().output, json!({ "taken": [] }));
    }

    #[tokio::test]
    async fn a_condition_that_is_neither_true_nor_false_is_an_error() {
        for when in [json!("false"), json!(0), json!(null)] {
            let error = error_of(Switch.run(step(json!({ "cases": [{ "when": when, "then": [] }] }))).await);
            assert_eq!(error.kind, "schema.input");
            assert!(error.message.contains("cases[0].when"), "{}", error.message);
        }
        let long = json!([{ "when": "x".repeat(1_000_000), "then": [] }]);
        let error = error_of(Switch.run(step(json!({ "cases": long }))).await);
        assert!(error.message.len() < 200, "{:.300}", error.message);
    }
}
