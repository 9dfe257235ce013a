//! What expressions can see of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Value as Term;
use serde_json::{Value, json};

use super::reference::{Reference, Source, Step, follow};
use super::view;
use crate::{NodeIndex, Payload, Plan, RunState, StepError};

/// What expressions can see: `inputs`, `nodes`, `run`, `node`; in a machine `context` and `event`; and for
/// runners `secrets`.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    plan: &'a Plan,
    state: &'a RunState,
    node: Option<NodeIndex>,
    secrets: Option<&'a BTreeMap<String, String>>,
    error: Option<&'a StepError>,
    scene: Option<Scene<'a>>,
}

/// What a machine remembers, and what it reacts to.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub context: &'a Arc<Value>,
    /// None where nothing is being reacted to.
    pub event: Option<&'a Arc<Value>>,
}

/// What a reference leads to.
pub(super) enum Found<'a> {
    Shared(&'a Arc<Value>, &'a Arc<[Step]>),
    Owned(Value),
    Missing,
}

impl<'a> Context<'a> {
    pub fn new(plan: &'a Plan, state: &'a RunState) -> Self {
        let machine = state.machine.as_ref();
        let scene = machine.map(|machine| Scene { context: &machine.state.context, event: None });
        Self { plan, state, node: None, secrets: None, error: None, scene }
    }

    /// For expressions of one node: `node.id` and `node.attempt` can be read.
    #[must_use]
    pub fn with_node(mut self, node: NodeIndex) -> Self {
        self.node = Some(node);
        self
    }

    /// Only for what a runner receives, and never for what is stored.
    #[must_use]
    pub fn with_secrets(mut self, secrets: &'a BTreeMap<String, String>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// While a failure is being routed: the error that the node of [`Self::with_node`] has just met.
    #[must_use]
    pub fn with_error(mut self, error: &'a StepError) -> Self {
        self.error = Some(error);
        self
    }

    /// For expressions of a machine.
    #[must_use]
    pub fn with_scene(mut self, scene: Scene<'a>) -> Self {
        self.scene = Some(scene);
        self
    }

    pub(super) fn find<'c>(&'c self, reference: &'c Reference) -> Result<Found<'c>, StepError> {
        let key = reference.first_key().unwrap_or_default();
        match &reference.source {
            Source::Inputs => shared(&self.state.inputs, reference),
            Source::Output { node } => match self.step(node) {
                Some(step) => shared(&step.output, reference),
                None => Ok(Found::Missing),
            },
            Source::Status { node } => Ok(match self.step(node) {
                Some(step) if reference.path.is_empty() => Found::Owned(step.status.as_str().into()),
                _ => Found::Missing,
            }),
            Source::Error { node } => {
                let own = self.error.filter(|_| self.plan.by_id.get(node).copied() == self.node);
                let error = own.or_else(|| self.step(node).and_then(|step| step.error.as_ref()));
                let error = error.map_or(
                    Value::Null,
                    |error| json!({ "type": error.kind, "message": error.message, "details": error.details }),
                );
                Ok(owned(follow(&error, &reference.path).cloned()))
            }
            Source::Run => Ok(owned(match key {
                "id" => Some(self.state.run_id.to_string().into()),
                "workflow" => Some(self.plan.name.as_str().into()),
                "created_at" => Some(self.state.created_at.to_string().into()),
                _ => None,
            })),
            Source::Node => Ok(owned(self.node.and_then(|node| match key {
                "id" => Some(self.plan.node(node).id.as_str().into()),
                "attempt" => Some(self.state.step(node).attempt.into()),
                _ => None,
            }))),
            Source::Context => Ok(match &self.scene {
                Some(scene) => Found::Shared(scene.context, &reference.path),
                None => Found::Missing,
            }),
            Source::Event { part } => Ok(match (self.scene.and_then(|scene| scene.event), part) {
                (Some(event), None) => Found::Shared(event, &reference.path),
                (Some(event), Some(part)) => {
                    let part = event.get(part.name());
                    owned(part.and_then(|value| follow(value, &reference.path)).cloned())
                }
                (None, _) => Found::Missing,
            }),
            Source::Secrets => Ok(owned(
                self.secrets.and_then(|secrets| secrets.get(key)).map(|secret| secret.as_str().into()),
            )),
        }
    }

    pub(super) fn is_missing(&self, reference: &Reference) -> bool {
        match self.find(reference) {
            Ok(Found::Shared(root, path)) => follow(root, path).is_none(),
            Ok(Found::Missing) => true,
            Ok(Found::Owned(_)) | Err(_) => false,
        }
    }

    fn step(&self, node: &str) -> Option<&crate::state::Step> {
        self.plan.by_id.get(node).map(|index| self.state.step(*index))
    }
}

fn shared<'c>(payload: &'c Payload, reference: &'c Reference) -> Result<Found<'c>, StepError> {
    match payload.value() {
        Some(value) => Ok(Found::Shared(value, &reference.path)),
        // The engine fetches what a plan reads before it asks for decisions.
        None => Err(StepError::new("internal", format!("`{reference}` was not fetched from the blob store"))),
    }
}

fn owned<'c>(value: Option<Value>) -> Found<'c> {
    value.map_or(Found::Missing, Found::Owned)
}

impl Found<'_> {
    pub(super) fn into_term(self) -> Term {
        match self {
            Found::Shared(root, path) => view::of(root, path),
            Found::Owned(value) => view::of(&Arc::new(value), &Arc::from([])),
            Found::Missing => Term::UNDEFINED,
        }
    }
}
