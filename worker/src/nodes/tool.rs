//! `tool`: does what a tool says that a call of it is.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use windlass_engine::{Done, Failure, Runner, Runners, StepContext};
use windlass_model::StepError;
use windlass_model::workflow::KindSpec;

use super::params;

/// As much of a tool's own code as the name of an error takes.
const CODE_CHARS_MAX: usize = 64;

/// Calls tools, with the runners of what they do.
pub(crate) struct Tool {
    runners: Runners,
}

/// A call as the engine has prepared it.
#[derive(Deserialize)]
struct Call {
    tool: String,
    #[serde(rename = "do")]
    deed: Deed,
}

#[derive(Deserialize)]
struct Deed {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    params: Map<String, Value>,
}

impl Tool {
    pub(crate) fn new(deeds: impl IntoIterator<Item = Arc<dyn Runner>>) -> Self {
        Self { runners: Runners::new(deeds) }
    }
}

#[async_trait]
impl Runner for Tool {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "tool",
            summary: "Calls a tool by its name",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "tool": { "description": "A name under `tools`, or of a registered tool", "type": "string" },
                        "with": { "description": "The tool's parameters; {} when absent", "type": "object" }
                    },
                    "required": ["tool"],
                    "additionalProperties": false
                })
            },
            // Which tools say for themselves.
            retry_safe: |_| false,
        }
    }

    fn deeds(&self) -> Vec<KindSpec> {
        self.runners.specs().collect()
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let Call { tool, deed } = params(&mut step)?;
        let Some(runner) = self.runners.get(&deed.kind) else {
            let sentence = format!("this worker cannot do what the tool `{tool}` does: `{}`", deed.kind);
            return Err(StepError::new("internal", sentence).into());
        };
        step.params = Value::Object(deed.params);
        match runner.run(step).await {
            Ok(mut done) => {
                // What was asked for; status and headers are how it came.
                if let ("http", Some(body)) = (deed.kind.as_str(), done.output.get_mut("body")) {
                    done.output = body.take();
                }
                Ok(done)
            }
            Err(mut failure) => {
                if let Some(code) = own_code(&failure.error) {
                    failure.error.kind = format!("tool.{tool}.{code}");
                }
                Err(failure)
            }
        }
    }
}

/// What the tool itself calls its refusal: the exit code of its program, or `code` in the JSON of its answer. How it was
/// reached, and what may go away by itself, keeps the name that it has everywhere.
fn own_code(error: &StepError) -> Option<String> {
    let code = match error.kind.split_once('.')? {
        ("script", exit) if exit.starts_with("exit_") => exit.to_owned(),
        ("http", status) if is_refusal(status.parse().ok()?) => {
            let body: Value = serde_json::from_str(error.details.as_ref()?.get("body")?.as_str()?).ok()?;
            body.get("code").or_else(|| body.pointer("/error/code"))?.as_str()?.to_ascii_lowercase()
        }
        _ => return None,
    };
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    (!code.is_empty() && code.len() <= CODE_CHARS_MAX && code.bytes().all(is_plain)).then_some(code)
}

fn is_refusal(status: u16) -> bool {
    const REQUEST_TIMEOUT: u16 = 408;
    const TOO_MANY_REQUESTS: u16 = 429;
    (400..500).contains(&status) && !matches!(status, REQUEST_TIMEOUT | TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::script::Script;
    use crate::nodes::testing::{error_of, step};
    use crate::nodes::transform::Transform;

    fn tool() -> Tool {
        Tool::new([Arc::new(Script) as Arc<dyn Runner>, Arc::new(Transform)])
    }

    fn call(deed: Value) -> StepContext {
        step(json!({ "tool": "stock.count", "with": {}, "do": deed }))
    }

    fn answered(status: u16, body: &str) -> StepError {
        StepError::new(format!("http.{status}"), "").with_details(json!({ "status": status, "body": body }))
    }

    #[tokio::test]
    async fn a_tool_does_what_its_deed_says() {
        let script = json!({ "type": "script", "command": ["cat"], "with": { "sku": "a" } });
        assert_eq!(tool().run(call(script)).await.unwrap().output, json!({ "sku": "a" }));
        let value = json!({ "type": "transform", "output": { "body": 1 } });
        assert_eq!(tool().run(call(value)).await.unwrap().output, json!({ "body": 1 }), "no answer of HTTP");
    }

    #[tokio::test]
    async fn an_exit_code_is_an_error_of_the_tool() {
        let error = error_of(tool().run(call(json!({ "type": "script", "run": "exit 3" }))).await);
        assert_eq!(error.kind, "tool.stock.count.exit_3");
        let error = error_of(tool().run(call(json!({ "type": "script", "command": ["/no/such"] }))).await);
        assert_eq!(error.kind, "script.not_found");
    }

    #[test]
    fn a_refusal_with_a_code_is_the_tools_own_and_trouble_on_the_way_is_not() {
        let of = |status, body| own_code(&answered(status, body));
        assert_eq!(of(422, r#"{"code": "card_declined"}"#).as_deref(), Some("card_declined"));
        assert_eq!(of(402, r#"{"error": {"code": "Card_Declined"}}"#).as_deref(), Some("card_declined"));
        for (status, body) in [
            (503, r#"{"code": "busy"}"#),
            (429, r#"{"code": "busy"}"#),
            (422, "no"),
            (422, r#"{"code": 7}"#),
            (422, r#"{"code": "two words"}"#),
            (422, r#"{"code": ""}"#),
        ] {
            assert_eq!(of(status, body), None, "{status} {body}");
        }
        assert_eq!(own_code(&StepError::new("timeout", "")), None);
    }
}
