//! `mock`: an agent that answers what is written, for tests and for the time before there is a real one.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_model::time::parse_duration;
use windlass_model::workflow::KindSpec;
use windlass_model::{Attempt, StepError};

use super::{Agent, Invocation};

pub(super) struct Mock;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    #[serde(default = "always")]
    when: bool,
    delay: Option<String>,
    #[serde(default)]
    tokens: Vec<String>,
    output: Option<Value>,
    error: Option<StepError>,
}

fn always() -> bool {
    true
}

#[async_trait]
impl Agent for Mock {
    fn spec(&self) -> KindSpec {
        KindSpec { name: "mock", summary: "Answers what is written", params: schema, retry_safe: |_| true }
    }

    async fn invoke(&self, call: Invocation) -> Result<Value, StepError> {
        let script: Script = serde_json::from_value(call.settings)
            .map_err(|error| StepError::new("schema.input", error.to_string()))?;
        // The key, and not the attempt: a call that is repeated because its worker died is the same call.
        let answer = nth(script, call.step.key_attempt).ok_or_else(|| {
            StepError::new("agent.no_answer", format!("no answer of `{}` is meant for this", call.agent))
        })?;
        if let Some(delay) = answer.delay {
            let delay = parse_duration(&delay).map_err(|detail| StepError::new("schema.input", detail))?;
            wait(delay, &call.step.cancel).await?;
        }
        for token in &answer.tokens {
            call.step.progress.report(json!({ "agent": call.agent, "token": token }));
        }
        match (answer.error, answer.output) {
            (Some(error), _) => Err(error),
            (None, Some(output)) => Ok(output),
            (None, None) if answer.tokens.is_empty() => Ok(Value::Null),
            (None, None) => Ok(json!({ "text": answer.tokens.concat() })),
        }
    }
}

/// Of the answers that are meant for this call, the one for its first, second, … try; the last for all that follow.
fn nth(script: Script, attempt: Attempt) -> Option<Answer> {
    let mut fitting: Vec<Answer> = script.answers.into_iter().filter(|answer| answer.when).collect();
    let last = fitting.len().checked_sub(1)?;
    let place = usize::from(attempt.saturating_sub(1));
    Some(fitting.swap_remove(place.min(last)))
}

async fn wait(delay: Duration, cancel: &tokio_util::sync::CancellationToken) -> Result<(), StepError> {
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = cancel.cancelled() => Err(StepError::new("canceled", "the run was canceled meanwhile")),
    }
}

fn schema() -> Value {
    let error = json!({
        "type": "object",
        "properties": {
            "type": { "type": "string", "pattern": "^[a-z][a-z0-9_.-]*$" },
            "message": { "type": "string" },
            "details": {}
        },
        "required": ["type", "message"],
        "additionalProperties": false
    });
    let answer = json!({
        "type": "object",
        "properties": {
            "when": { "description": "Whether it is meant for this call; for every call when absent", "type": "boolean" },
            "delay": { "description": "How long it thinks first", "type": "string" },
            "tokens": { "description": "What it says on the way, shown live; the output as text when there is no other",
                        "type": "array", "items": { "type": "string" } },
            "output": { "description": "The answer" },
            "error": error
        },
        "not": { "required": ["output", "error"] },
        "additionalProperties": false
    });
    json!({
        "type": "object",
        "properties": {
            "answers": {
                "description": "Of those that are meant for a call, the first is for its first try, the second for the next, \
                                the last for all that follow",
                "type": "array", "items": answer, "minItems": 1
            }
        },
        "required": ["answers"],
        "additionalProperties": false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::{reported, step, watched_step};

    fn call(answers: Value) -> Invocation {
        let settings = json!({ "answers": answers });
        Invocation {
            agent: "writer".into(),
            input: json!({}),
            settings,
            result: None,
            step: step(Value::Null),
        }
    }

    #[tokio::test]
    async fn the_tries_of_a_call_are_answered_in_order() {
        let answers = json!([
            { "when": false, "output": "never" },
            { "error": { "type": "agent.overloaded", "message": "later" } },
            { "output": "now" }
        ]);
        let at = |attempt| {
            let mut call = call(answers.clone());
            (call.step.attempt, call.step.key_attempt) = (9, attempt);
            Mock.invoke(call)
        };
        assert_eq!(at(1).await.unwrap_err().kind, "agent.overloaded");
        assert_eq!(at(2).await.unwrap(), "now");
        assert_eq!(at(7).await.unwrap(), "now");
    }

    #[tokio::test]
    async fn a_call_that_no_answer_is_meant_for_fails_by_name() {
        let error = Mock.invoke(call(json!([{ "when": false }]))).await.unwrap_err();
        assert_eq!(error.kind, "agent.no_answer");
    }

    #[tokio::test]
    async fn tokens_are_shown_on_the_way_and_are_the_answer_when_there_is_no_other() {
        let (step, mut news) = watched_step(Value::Null).await;
        let call = Invocation { step, ..call(json!([{ "tokens": ["Hel", "lo"] }])) };
        assert_eq!(Mock.invoke(call).await.unwrap(), json!({ "text": "Hello" }));
        let token = |token: &str| json!({ "agent": "writer", "token": token });
        assert_eq!(reported(&mut news), [token("Hel"), token("lo")]);
    }

    #[tokio::test]
    async fn an_agent_that_thinks_can_be_stopped() {
        let call = call(json!([{ "delay": "1h", "output": 1 }]));
        call.step.cancel.cancel();
        assert_eq!(Mock.invoke(call).await.unwrap_err().kind, "canceled");
    }
}
