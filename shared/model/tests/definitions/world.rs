//! A run that has got somewhere, for expressions to look at.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;
use windlass_model::event::RunCreated;
use windlass_model::workflow::expression::{Context, Expression, Template};
use windlass_model::{Actor, Payload, Plan, RunId, RunState, StepError, StepStatus, Timestamp};

/// Two steps: `load` has succeeded with the given output, `save-it` has not begun.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) state: RunState,
    secrets: BTreeMap<String, String>,
}

impl World {
    pub(crate) fn new(inputs: Value, output: Value) -> Self {
        let plan = crate::support::good(
            "version: 1\nname: world\ntype: steps\nsteps:\n  - {id: load, type: noop}\n  - {id: save-it, type: noop}\n",
        );
        let (_, mut state) = windlass_model::decide::create(
            &plan,
            RunId(Uuid::from_u128(7)),
            RunCreated { inputs: Payload::Inline(Arc::new(inputs)), ..RunCreated::default() },
            Actor::user("ada"),
            Timestamp(1_700_000_000_000_000),
        );
        state.steps[0].status = StepStatus::Succeeded;
        state.steps[0].attempt = 2;
        state.steps[0].output = Payload::Inline(Arc::new(output));
        state.steps[1].error =
            Some(StepError::new("http.503", "Service Unavailable").with_details(json!({"status": 503})));
        let secrets = BTreeMap::from([("TOKEN".to_owned(), "t0p-secret".to_owned())]);
        Self { plan, state, secrets }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context::new(&self.plan, &self.state).with_step(self.plan.by_id["load"]).with_secrets(&self.secrets)
    }

    pub(crate) fn eval(&self, text: &str) -> Result<Value, StepError> {
        Expression::compile(text)
            .map_err(|detail| StepError::new("does not compile", detail))?
            .eval(&self.context())
    }

    pub(crate) fn render(&self, template: Value) -> Result<Value, StepError> {
        Template::compile(template)
            .map_err(|problems| StepError::new("does not compile", format!("{problems:?}")))?
            .render(&self.context())
    }

    /// `value`, or what went wrong.
    pub(crate) fn shown(&self, text: &str) -> String {
        match self.eval(text) {
            Ok(value) => value.to_string(),
            Err(error) => format!("{}: {}", error.kind, error.message),
        }
    }
}
