//! What answers when a node calls an agent: one file per type of agent, and one line for it here.

mod mock;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use windlass_engine::StepContext;
use windlass_model::StepError;
use windlass_model::workflow::KindSpec;

/// Answers for the agents whose `do` names its type.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// The type, the keys that may stand beside it in `do`, and whether a call may be repeated.
    fn spec(&self) -> KindSpec;

    /// Answers one call. What it gives is held against the agent's `result` and the node's `output_schema` afterwards.
    ///
    /// The same promises hold as for a runner: the future is dropped when the step's time is over; `step.cancel` asks
    /// it to return soon; what it says on the way goes to `step.progress`.
    async fn invoke(&self, call: Invocation) -> Result<Value, StepError>;
}

/// One call of an agent.
pub struct Invocation {
    /// The agent's name.
    pub agent: String,
    /// What the node hands over, with the defaults of the agent's `parameters`.
    pub input: Value,
    /// The keys of the agent's `do`, every expression evaluated. May hold secrets: don't log it.
    pub settings: Value,
    /// JSON Schema of the answer that the agent has promised.
    pub result: Option<Value>,
    /// Who calls. Its `params` have become the fields above.
    pub step: StepContext,
}

/// Every type of agent that this worker can ask.
pub fn all() -> Vec<Arc<dyn Agent>> {
    vec![Arc::new(mock::Mock)]
}
