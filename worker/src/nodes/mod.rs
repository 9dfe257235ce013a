//! What nodes do: one file per kind, and one line for it here.

mod agent;
mod artifact;
mod egress;
mod emit;
mod http;
mod noop;
mod script;
mod switch;
mod tool;
mod transform;

#[cfg(test)]
pub(crate) mod testing;

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use windlass_engine::{Runner, Runners, StepContext};
use windlass_model::StepError;

pub use egress::EgressPolicy;

use crate::agents;

/// What whoever operates the worker decides about nodes.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Where `http` nodes may connect to.
    pub egress: EgressPolicy,
}

/// Every kind that this worker can do.
pub fn all(options: &NodeOptions) -> Runners {
    let transform: Arc<dyn Runner> = Arc::new(transform::Transform);
    let http: Arc<dyn Runner> = Arc::new(http::Http::new(options.egress.clone()));
    let script: Arc<dyn Runner> = Arc::new(script::Script);
    let kinds: [Arc<dyn Runner>; 8] = [
        Arc::new(noop::Noop),
        Arc::new(switch::Switch),
        Arc::new(emit::EmitEvent),
        transform.clone(),
        http.clone(),
        script.clone(),
        Arc::new(tool::Tool::new([http, script, transform])),
        Arc::new(agent::AskAgent::new(agents::all())),
    ];
    Runners::new(kinds)
}

/// Reads a node's keys after their expressions were evaluated.
///
/// # Errors
/// `schema.input`: a literal was checked when the definition was, what an expression gave was not.
pub fn params<T: DeserializeOwned>(step: &mut StepContext) -> Result<T, StepError> {
    serde_json::from_value(step.params.take()).map_err(|error| invalid(error.to_string()))
}

fn invalid(sentence: impl Into<String>) -> StepError {
    StepError::new("schema.input", sentence)
}

/// How much of a text that somebody gave a message repeats.
const SHOWN_BYTES_MAX: usize = 256;

/// A text for a message, unless it is long. It is not cut then: a secret in it is masked as a whole, and half of one
/// would pass.
fn shown(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN_BYTES_MAX { text.into() } else { format!("… {} bytes …", text.len()).into() }
}

fn canceled() -> StepError {
    StepError::new("canceled", "the run was canceled meanwhile")
}
