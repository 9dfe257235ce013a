//! Bodies: nodes that stand inside a node, and that it runs as a run of its own.
//!
//! A body is a definition like any other, made of what was written and of what the definition around it says for all
//! nodes. What its expressions read outside of it is known before any run, and becomes the inputs of its run.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::workflow::expression::{Context, Reference};
use crate::{Plan, StepError};

#[derive(Debug)]
pub struct Body {
    pub plan: Arc<Plan>,
    /// The definition of its run, as canonical JSON.
    pub spec: String,
    pub captures: Vec<Capture>,
}

/// Something outside of a body that its expressions read.
#[derive(Debug)]
pub struct Capture {
    /// Where it goes in the inputs of the body's run: the way there is what the body's expressions say.
    pub to: Vec<String>,
    /// What that means where the body stands.
    pub from: Reference,
}

/// The run that a step starts, and whose end is its own.
#[derive(Debug)]
pub enum Called {
    /// Of this version of a published workflow, or of the latest there is when the step starts.
    Published {
        name: String,
        version: Option<u32>,
    },
    Body(Arc<Body>),
    /// One body for each item, with its name.
    Branches(Vec<(String, Arc<Body>)>),
    /// The map itself once more, for some of its items.
    Slice(Arc<Body>),
}

/// Where a slice finds its items in its inputs. Nothing in a definition can have this name.
pub(crate) const SLICE_KEY: &str = "$slice";

impl Body {
    /// The inputs of a run of it: what it reads outside, as it is now.
    ///
    /// # Errors
    /// `internal` when a payload was not fetched.
    pub fn inputs(&self, context: &Context<'_>) -> Result<Value, StepError> {
        let mut inputs = Map::new();
        inputs.extend(context.slice()?.map(|slice| (SLICE_KEY.to_owned(), slice)));
        for Capture { to, from } in &self.captures {
            // What is not there is not there inside, either.
            if let Some(value) = context.value_of(from)? {
                insert(&mut inputs, to, value);
            }
        }
        Ok(Value::Object(inputs))
    }
}

fn insert(map: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            map.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = map.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Some(inner) = inner.as_object_mut() {
                insert(inner, rest, value);
            }
        }
    }
}

impl Called {
    /// The body that a step, or one item of it, runs.
    pub fn body(&self, item: Option<u32>) -> Option<&Arc<Body>> {
        match self {
            Self::Published { .. } => None,
            Self::Body(body) | Self::Slice(body) => Some(body),
            Self::Branches(branches) => branches.get(item? as usize).map(|(_, body)| body),
        }
    }

    /// All bodies that somebody has written, each with what is said of it beside the node that has it.
    pub fn bodies(&self) -> Vec<(Option<&str>, &Arc<Body>)> {
        match self {
            Self::Published { .. } | Self::Slice(_) => Vec::new(),
            Self::Body(body) => vec![(None, body)],
            Self::Branches(branches) => {
                branches.iter().map(|(name, body)| (Some(name.as_str()), body)).collect()
            }
        }
    }
}
