//! Tools and agents: what a node calls by a name.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::StepError;
use crate::circuit::CircuitSpec;
use crate::rate_limit::RateLimit;
use crate::workflow::expression::{Context, Template};
use crate::workflow::schema::{Schema, Violation};

/// A tool or an agent, as the definition that calls it has brought it along.
#[derive(Debug)]
pub struct Callee {
    pub kind: CalleeKind,
    pub name: String,
    /// What a call must hand over.
    pub parameters: Option<Schema>,
    /// What a call must give back.
    pub result: Option<Schema>,
    pub risk: Option<Risk>,
    pub circuit: Option<Arc<CircuitSpec>>,
    /// How often it may be called.
    pub rate_limit: Option<RateLimit>,
    /// Whether a call of unknown outcome may be repeated without asking.
    pub retry_safe: bool,
    /// The kind of deed that a call is, and the keys of that kind. Its expressions read the parameters.
    pub deed: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CalleeKind {
    Tool,
    Agent,
}

/// How much harm a call can do, in the words of whoever registered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Risk {
    Low,
    Medium,
    High,
}

impl CalleeKind {
    pub const ALL: [Self; 2] = [Self::Tool, Self::Agent];

    /// The kind of node that calls it, and the key of such a node that names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Agent => "agent",
        }
    }

    /// Where definitions bring them along, and where they are registered.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Agent => "agents",
        }
    }

    /// What nodes of this kind call.
    pub fn of_node(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|callee| callee.as_str() == kind)
    }
}

impl Callee {
    /// A call by a node with these keys, checked and ready for the runner: `with` as it is handed over, and `do` with
    /// every expression evaluated.
    ///
    /// # Errors
    /// `schema.input` with a pointer for each violation, `expression`, `limit.expression`.
    pub fn call(&self, mut params: Value, context: &Context<'_>) -> Result<Value, StepError> {
        let mut with = params.get_mut("with").map_or_else(|| json!({}), Value::take);
        if let Some(schema) = &self.parameters {
            schema.fill_defaults(&mut with);
            let broken = schema.check(&with);
            if !broken.is_empty() {
                return Err(violated("schema.input", "with", &broken));
            }
        }
        let with = Arc::new(with);
        params["do"] = self.deed.render(&context.with_parameters(&with))?;
        params["with"] = Arc::unwrap_or_clone(with);
        if let Some(result) = &self.result {
            params["result"] = result.source().clone();
        }
        Ok(params)
    }
}

/// An error that names every place where `what` is not as its schema says.
pub(crate) fn violated(kind: &str, what: &str, broken: &[Violation]) -> StepError {
    let list: Vec<String> = broken.iter().map(|it| format!("{what}{}: {}", it.pointer, it.detail)).collect();
    StepError::new(kind, list.join("; ")).with_details(json!(broken))
}
