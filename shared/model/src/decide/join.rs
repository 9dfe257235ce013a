//! Makes one value of many, without a runner: nothing outside is asked.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Tick;
use super::fan::{ITEMS_MAX, within_limit};
use crate::event::StepSucceeded;
use crate::plan::{JoinSpec, JoinStrategy, Quorum};
use crate::workflow::expression::Reduced;
use crate::{Payload, StepError, StepKey};

impl Tick<'_> {
    pub(super) fn join(&mut self, node: StepKey, spec: &JoinSpec) {
        let attempt = self.state.step(node).attempt + 1;
        match self.joined(node, spec).map(Payload::new).and_then(within_limit) {
            Ok(output) => {
                self.emit_step(node, Some(attempt), StepSucceeded { output, artifacts: Vec::new() });
            }
            Err(error) => self.fail_without_runner(node, attempt, error),
        }
    }

    fn joined(&self, node: StepKey, spec: &JoinSpec) -> Result<Value, StepError> {
        let values = self.values_to_join(node, spec)?;
        let given = values.into_iter().filter(|(_, value)| !value.is_null());
        match &spec.strategy {
            JoinStrategy::Merge => merge(given),
            JoinStrategy::Collect if spec.over.is_some() => Ok(given.map(|(_, value)| value).collect()),
            JoinStrategy::Collect => Ok(Value::Object(given.collect())),
            JoinStrategy::Vote(quorum) => vote(given.map(|(_, value)| value), *quorum),
            JoinStrategy::Reduce { initial, step } => {
                let mut so_far = initial.render(&self.context(node))?;
                for (index, (_, value)) in given.enumerate() {
                    let reduced = Reduced { so_far: Arc::new(so_far), value: Arc::new(value), index };
                    so_far = step.render(&self.context(node).with_reduced(&reduced))?;
                }
                Ok(so_far)
            }
        }
    }

    /// Each with the id of the node that gave it, or with its place in the list.
    fn values_to_join(&self, node: StepKey, spec: &JoinSpec) -> Result<Vec<(String, Value)>, StepError> {
        let Some(over) = &spec.over else {
            let needs = self.plan.node(node).needs.iter().map(|need| need.node);
            let given = needs.map(|need| {
                let value = self.state.step(need).output.value();
                let value = value.map_or(Value::Null, |value| (**value).clone());
                (self.plan.node(need).id.clone(), value)
            });
            return Ok(given.collect());
        };
        match over.render(&self.context(node))? {
            Value::Array(list) if list.len() > ITEMS_MAX => {
                let sentence = format!("{} values; {ITEMS_MAX} are allowed", list.len());
                Err(StepError::new("limit.items", sentence))
            }
            Value::Array(list) => {
                Ok(list.into_iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect())
            }
            other => {
                let text = other.to_string();
                let sentence = format!("`over` must give a list, not {}", crate::workflow::excerpt(&text));
                Err(StepError::new("schema.input", sentence))
            }
        }
    }
}

fn merge(values: impl Iterator<Item = (String, Value)>) -> Result<Value, StepError> {
    let mut merged = Map::new();
    for (whose, value) in values {
        let Value::Object(members) = value else {
            let sentence = format!("only objects can be merged, and what `{whose}` gave is none");
            return Err(StepError::new("schema.input", sentence));
        };
        merged.extend(members);
    }
    Ok(Value::Object(merged))
}

/// The first value of those with most votes wins, if it has enough of them.
fn vote(values: impl Iterator<Item = Value>, quorum: Quorum) -> Result<Value, StepError> {
    let mut counts: Vec<(Value, u32)> = Vec::new();
    let mut all = 0;
    for value in values {
        all += 1;
        match counts.iter().position(|(other, _)| *other == value) {
            Some(at) => counts[at].1 += 1,
            None if counts.len() >= CANDIDATES_MAX => {
                let sentence =
                    format!("more than {CANDIDATES_MAX} different values; is there one to vote for?");
                return Err(StepError::new("limit.candidates", sentence));
            }
            None => counts.push((value, 1)),
        }
    }
    let most = counts.iter().map(|(_, votes)| *votes).max().unwrap_or(0);
    let wanted = match quorum {
        Quorum::Majority => all / 2 + 1,
        Quorum::Count(count) => count,
    };
    let winner = counts.iter().find(|(_, votes)| *votes == most).filter(|_| most >= wanted);
    winner.map(|(value, votes)| json!({ "value": value, "votes": votes, "of": all })).ok_or_else(|| {
        let sentence = format!("the most votes that a value has are {most} of {all}; {wanted} are needed");
        StepError::new("join.no_quorum", sentence)
    })
}

/// Each value is compared with every candidate.
const CANDIDATES_MAX: usize = 100;
