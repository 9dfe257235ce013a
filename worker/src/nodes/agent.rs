//! `agent`: asks an agent by its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::StepError;
use windlass_model::workflow::KindSpec;

use super::params;
use crate::agents::{Agent, Invocation};

pub(crate) struct AskAgent {
    agents: BTreeMap<&'static str, Arc<dyn Agent>>,
}

/// A call as the engine has prepared it.
#[derive(Deserialize)]
struct Call {
    agent: String,
    with: Value,
    result: Option<Value>,
    #[serde(rename = "do")]
    deed: Deed,
}

#[derive(Deserialize)]
struct Deed {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

impl AskAgent {
    pub(crate) fn new(agents: Vec<Arc<dyn Agent>>) -> Self {
        Self { agents: agents.into_iter().map(|agent| (agent.spec().name, agent)).collect() }
    }
}

#[async_trait]
impl Runner for AskAgent {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "agent",
            summary: "Asks an agent by its name",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "agent": { "description": "A name under `agents`, or of a registered agent", "type": "string" },
                        "with": { "description": "What it is asked; {} when absent", "type": "object" }
                    },
                    "required": ["agent"],
                    "additionalProperties": false
                })
            },
            // Which agents say for themselves.
            retry_safe: |_| false,
        }
    }

    fn deeds(&self) -> Vec<KindSpec> {
        self.agents.values().map(|agent| agent.spec()).collect()
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let Call { agent: name, with, result, deed } = params(&mut step)?;
        let Some(agent) = self.agents.get(deed.kind.as_str()) else {
            let sentence = format!("this worker knows no agents of type `{}`, as `{name}` is", deed.kind);
            return Err(StepError::new("internal", sentence).into());
        };
        let settings = Value::Object(deed.settings);
        let answer = agent.invoke(Invocation { agent: name, input: with, settings, result, step }).await;
        Ok(Done::new(answer?))
    }
}
