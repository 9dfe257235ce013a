//! What expressions can see of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Value as Term;
use serde_json::{Map, Value, json};

use super::reference::{Reference, Source, Step, follow};
use super::view;
use crate::{NodeIndex, Payload, Plan, RunState, StepError, StepKey};

/// What expressions can see: `inputs`, `nodes`, `run`, `node`; in a machine `context` and `event`; inside
/// a fan-out `item` or `loop`; and for runners `secrets`.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    plan: &'a Plan,
    state: &'a RunState,
    step: Option<StepKey>,
    secrets: Option<&'a BTreeMap<String, String>>,
    error: Option<&'a StepError>,
    scene: Option<Scene<'a>>,
    parameters: Option<&'a Arc<Value>>,
    reduced: Option<&'a Reduced>,
    labels: Option<&'a BTreeMap<String, String>>,
}

/// Where a reduction stands.
pub struct Reduced {
    pub so_far: Arc<Value>,
    /// The element whose turn it is, and its place.
    pub value: Arc<Value>,
    pub index: usize,
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
        Self {
            plan,
            state,
            step: None,
            secrets: None,
            error: None,
            scene,
            parameters: None,
            reduced: None,
            labels: None,
        }
    }

    /// For expressions of one step: `node.id` and `node.attempt` can be read, and its item if it has one.
    #[must_use]
    pub fn with_step(mut self, step: impl Into<StepKey>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// Only for what a runner receives, and never for what is stored.
    #[must_use]
    pub fn with_secrets(mut self, secrets: &'a BTreeMap<String, String>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// While a failure is being routed: the error that the node of [`Self::with_step`] has just met.
    #[must_use]
    pub fn with_error(mut self, error: &'a StepError) -> Self {
        self.error = Some(error);
        self
    }

    /// For the expressions of a tool or an agent: what it is called with.
    #[must_use]
    pub fn with_parameters(mut self, parameters: &'a Arc<Value>) -> Self {
        self.parameters = Some(parameters);
        self
    }

    /// For expressions of a machine.
    #[must_use]
    pub fn with_scene(mut self, scene: Scene<'a>) -> Self {
        self.scene = Some(scene);
        self
    }

    /// For what a join does with each element.
    #[must_use]
    pub fn with_reduced(mut self, reduced: &'a Reduced) -> Self {
        self.reduced = Some(reduced);
        self
    }

    /// For what is asked before a run is there: its labels.
    #[must_use]
    pub fn with_labels(mut self, labels: &'a BTreeMap<String, String>) -> Self {
        self.labels = Some(labels);
        self
    }

    pub(super) fn find<'c>(&'c self, reference: &'c Reference) -> Result<Found<'c>, StepError> {
        let key = reference.first_key().unwrap_or_default();
        match &reference.source {
            Source::Inputs | Source::Outside => shared(&self.state.inputs, reference),
            Source::Output { node } => match self.step(node) {
                Some(step) => shared(&step.output, reference),
                None => Ok(Found::Missing),
            },
            Source::Status { node } => Ok(match self.step(node) {
                Some(step) if reference.path.is_empty() => Found::Owned(step.status.as_str().into()),
                _ => Found::Missing,
            }),
            Source::Error { node } => {
                let own = self.error.filter(|_| self.plan.by_id.get(node).copied() == self.node());
                let error = own.or_else(|| self.step(node).and_then(|step| step.error.as_ref()));
                Ok(owned(follow(&error_json(error), &reference.path).cloned()))
            }
            Source::Run => Ok(owned(match key {
                "id" => Some(self.state.run_id.to_string().into()),
                "workflow" => Some(self.plan.name.as_str().into()),
                "created_at" => Some(self.state.created_at.to_string().into()),
                "scheduled_at" => Some(self.state.scheduled.as_ref().map(|it| it.at.to_string()).into()),
                "labels" => self.labels.and_then(|labels| {
                    follow(&json!(labels), reference.path.get(1..).unwrap_or_default()).cloned()
                }),
                _ => None,
            })),
            Source::Node => Ok(owned(self.step.and_then(|step| match key {
                "id" => Some(self.plan.node(step).id.as_str().into()),
                "attempt" => Some(self.state.step(step).attempt.into()),
                _ => None,
            }))),
            Source::Accumulator => Ok(match self.reduced {
                Some(reduced) => Found::Shared(&reduced.so_far, &reference.path),
                None => Found::Missing,
            }),
            Source::Item | Source::Loop => self.of_item(key, reference),
            Source::Parameters => Ok(match self.parameters {
                Some(parameters) => Found::Shared(parameters, &reference.path),
                None => Found::Missing,
            }),
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

    /// The value that is read, if there is one.
    ///
    /// # Errors
    /// `internal` when it lies in a payload that was not fetched.
    pub fn value_of(&self, reference: &Reference) -> Result<Option<Value>, StepError> {
        Ok(match self.find(reference)? {
            Found::Shared(root, path) => follow(root, path).cloned(),
            Found::Owned(value) => Some(value),
            Found::Missing => None,
        })
    }

    pub(super) fn is_missing(&self, reference: &Reference) -> bool {
        match self.find(reference) {
            Ok(Found::Shared(root, path)) => follow(root, path).is_none(),
            Ok(Found::Missing) => true,
            Ok(Found::Owned(_)) | Err(_) => false,
        }
    }

    /// What an item, or a round of a loop, is told about itself. Where the loop itself asks, that is the next one.
    fn of_item(&self, name: &str, reference: &Reference) -> Result<Found<'_>, StepError> {
        let rest = reference.path.get(1..).unwrap_or_default();
        if let Some(reduced) = self.reduced {
            return Ok(match name {
                "index" => Found::Owned(reduced.index.into()),
                "value" => owned(follow(&reduced.value, rest).cloned()),
                _ => Found::Missing,
            });
        }
        let Some(key) = self.step else { return Ok(Found::Missing) };
        let of = self.plan.fan_of(key.node).unwrap_or(key.node);
        let fan = self.state.fans.get(&of);
        let count = fan.map_or(0, |fan| fan.count);
        let index = key.item.unwrap_or(count);
        let part = |payload: &Payload, place: Option<usize>| {
            let value = payload.value().ok_or_else(|| not_fetched(reference))?;
            let value = place.map_or(Some(&**value), |place| element(value, place));
            Ok(owned(value.and_then(|value| follow(value, rest)).cloned()))
        };
        let output_of = |item: u32| {
            let body = self.plan.node(of).body.map(|node| StepKey { node, item: Some(item) });
            body.map_or(Ok(Found::Missing), |key| part(&self.state.step(key).output, None))
        };
        match name {
            "index" => Ok(Found::Owned(index.into())),
            "count" => Ok(Found::Owned(count.into())),
            "value" => fan.map_or(Ok(Found::Missing), |fan| part(&fan.each, Some(index as usize))),
            "output" => output_of(index),
            // Null has no members: what is read of it is undefined, and not null.
            "last" => match index.checked_sub(1) {
                Some(before) => output_of(before),
                None => Ok(owned(follow(&Value::Null, rest).cloned())),
            },
            "error" => {
                let error = error_json(self.error.or(self.state.step(key).error.as_ref()));
                Ok(owned(follow(&error, rest).cloned()))
            }
            _ => Ok(Found::Missing),
        }
    }

    /// The items that a slice takes, each by its number, and how many the map has.
    pub(crate) fn slice(&self) -> Result<Option<Value>, StepError> {
        let slice = self.step.and_then(|key| Some((self.plan.fan_of(key.node)?, key.item?)));
        let Some((of, number)) = slice else { return Ok(None) };
        let Some(fan) = self.state.fans.get(&of) else { return Ok(None) };
        let Some(taken) = fan.slices.as_ref().and_then(|slices| slices.taken.get(number as usize)) else {
            return Ok(None);
        };
        let not_there = || StepError::new("internal", "the items were not fetched from the blob store");
        let list = fan.each.value().ok_or_else(not_there)?;
        let items: Map<String, Value> = (taken.iter())
            .map(|item| (item.to_string(), element(list, *item as usize).cloned().unwrap_or_default()))
            .collect();
        Ok(Some(json!({ "count": fan.count, "items": items })))
    }

    fn node(&self) -> Option<NodeIndex> {
        self.step.map(|step| step.node)
    }

    fn step(&self, node: &str) -> Option<&crate::state::Step> {
        self.plan.by_id.get(node).map(|index| self.state.step(*index))
    }
}

/// An item of a list, or of those that a slice has, by their numbers.
fn element(items: &Value, place: usize) -> Option<&Value> {
    match items {
        Value::Object(by_number) => by_number.get(&place.to_string()),
        list => list.get(place),
    }
}

fn shared<'c>(payload: &'c Payload, reference: &'c Reference) -> Result<Found<'c>, StepError> {
    match payload.value() {
        Some(value) => Ok(Found::Shared(value, &reference.path)),
        // The engine fetches what a plan reads before it asks for decisions.
        None => Err(not_fetched(reference)),
    }
}

fn not_fetched(reference: &Reference) -> StepError {
    StepError::new("internal", format!("`{reference}` was not fetched from the blob store"))
}

fn error_json(error: Option<&StepError>) -> Value {
    error.map_or(
        Value::Null,
        |error| json!({ "type": error.kind, "message": error.message, "details": error.details }),
    )
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
