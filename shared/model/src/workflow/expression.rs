//! `${{ … }}`: conditions and data mapping, without side effects, bounded in time and memory.

use serde_json::Value;

use crate::{Plan, RunState, StepError};

/// One compiled expression.
#[derive(Debug)]
pub struct Expression {}

/// A JSON value whose strings may hold expressions.
#[derive(Debug)]
pub struct Template {
    source: Value,
}

/// What expressions can see: `inputs`, `nodes`, `run`, `node`, and for runners `secrets`.
pub struct Context<'a> {
    _plan: &'a Plan,
    _state: &'a RunState,
}

impl<'a> Context<'a> {
    pub fn new(plan: &'a Plan, state: &'a RunState) -> Self {
        Self { _plan: plan, _state: state }
    }

    pub fn with_node(self, _node: crate::NodeIndex) -> Self {
        self
    }
}

impl Expression {
    /// # Errors
    /// A sentence with what is wrong in the expression.
    pub fn compile(_text: &str) -> Result<Self, String> {
        Ok(Self {})
    }

    /// # Errors
    /// `expression` or `limit.expression` errors.
    pub fn eval(&self, _context: &Context<'_>) -> Result<Value, StepError> {
        Ok(Value::Null)
    }

    /// The value as a condition: false, null, 0, "" and empty containers are false.
    pub fn is_true(&self, _context: &Context<'_>) -> Result<bool, StepError> {
        Ok(true)
    }
}

impl Template {
    /// The value as it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// # Errors
    /// `expression` or `limit.expression` errors.
    pub fn render(&self, _context: &Context<'_>) -> Result<Value, StepError> {
        Ok(self.source.clone())
    }
}
