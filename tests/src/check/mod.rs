//! Reads a run back and says what must not be.
//!
//! The rules are those that any history must keep, whatever the story was. They lean on the log, the
//! definition as its author wrote it, and what arrived at the sinks, never on the product's own model.

mod family;
mod gates;
mod order;
mod patience;
#[cfg(test)]
mod planted;
mod shape;
mod undoing;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::definition::{self, Needs};
use crate::sink::Effect;
use crate::{Client, Event, Log, Sink};

/// All that is known about one run.
pub struct Record {
    /// As `GET /v1/workflow-runs/{id}` shows it.
    pub run: Value,
    pub log: Log,
    /// As its author wrote it; none when nobody kept it.
    pub definition: Option<Value>,
    /// What its steps did outside.
    pub effects: Vec<Effect>,
    /// Runs that have it as their parent, as lists show them.
    pub children: Vec<Value>,
    /// Places in the log of the events about each node.
    by_node: BTreeMap<String, Vec<usize>>,
}

/// What is wrong, one sentence each.
#[derive(Default)]
pub struct Report(Vec<String>);

impl Report {
    fn unless(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.0.push(complaint());
        }
    }
}

/// Holds a record against every rule.
pub fn violations(record: &Record) -> Vec<String> {
    let mut report = Report::default();
    shape::log_is_gapless(record, &mut report);
    shape::terminal_is_final(record, &mut report);
    shape::row_agrees_with_log(record, &mut report);
    shape::epochs_never_go_back(record, &mut report);
    shape::everything_has_an_author(record, &mut report);
    order::one_outcome_per_attempt(record, &mut report);
    order::attempts_follow_each_other(record, &mut report);
    order::needs_come_first(record, &mut report);
    order::nothing_begins_without_a_place(record, &mut report);
    order::nothing_starts_after_cancel(record, &mut report);
    order::nothing_is_early(record, &mut report);
    order::lost_steps_wait_for_a_person(record, &mut report);
    order::lost_steps_are_repeated_within_reason(record, &mut report);
    order::keys_tell_what_is_known(record, &mut report);
    order::effects_were_announced(record, &mut report);
    patience::absent_agents_are_waited_for(record, &mut report);
    gates::gates_open_by_consent(record, &mut report);
    gates::gates_are_decided_once(record, &mut report);
    undoing::rules_decide_about_failures(record, &mut report);
    undoing::nothing_begins_but_what_was_planned(record, &mut report);
    undoing::what_acted_is_planned(record, &mut report);
    undoing::each_is_undone_once(record, &mut report);
    family::children_are_those_of_the_log(record, &mut report);
    family::attempts_have_one_child(record, &mut report);
    family::children_end_once_and_first(record, &mut report);
    report.0
}

impl Record {
    pub fn new(run: Value, log: Log, definition: Option<Value>, effects: Vec<Effect>) -> Self {
        let mut by_node: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, event) in log.0.iter().enumerate() {
            if let Some(node) = &event.node {
                by_node.entry(node.clone()).or_default().push(index);
            }
        }
        Self { run, log, definition, effects, children: Vec::new(), by_node }
    }

    /// How the attempts of a node ended, in order.
    fn outcomes_of(&self, node: &str) -> impl DoubleEndedIterator<Item = &Event> {
        let places = self.by_node.get(node).into_iter().flatten();
        places.map(|index| &self.log.0[*index]).filter(|event| event.is_outcome())
    }

    fn events(&self) -> &[Event] {
        &self.log.0
    }

    /// Events about steps, with their node.
    fn step_events(&self) -> impl Iterator<Item = (&str, &Event)> {
        self.events().iter().filter_map(|event| Some((event.node.as_deref()?, event)))
    }

    fn needs(&self) -> Option<Needs> {
        self.definition.as_ref().map(definition::needs)
    }

    /// The definition's node of this id; of an item the one that is done for each.
    fn node(&self, id: &str) -> Option<&Value> {
        if let Some(owner) = id.split_once('[').and_then(|(node, _)| node.strip_suffix(".do")) {
            return self.node(owner)?.get("do");
        }
        let spec = self.definition.as_ref()?;
        let nodes = spec.get("steps").or_else(|| spec.get("nodes"))?;
        match nodes {
            Value::Array(list) => list.iter().find(|node| node["id"] == id),
            nodes => nodes.get(id),
        }
    }
}

/// Reads one run over HTTP and checks it. Complaints come with the run's id and its log.
pub async fn run_over_http(client: &Client, run: &str, sinks: &[&Sink]) -> Vec<String> {
    let record = read(client, run, sinks).await;
    let complaints = violations(&record);
    if complaints.is_empty() {
        return complaints;
    }
    let list = complaints.iter().map(|it| format!("  - {it}")).collect::<Vec<_>>().join("\n");
    vec![format!("run {run} ({}):\n{list}\n{}", record.run["status"], record.log)]
}

/// Row and log of one moment: read again while the run moves in between.
async fn read(client: &Client, id: &str, sinks: &[&Sink]) -> Record {
    let mut run = client.get_run(id).await;
    loop {
        let log = client.events(id).await;
        // After the log: what that says has ended must have.
        let children = client.children(id).await;
        let now = client.get_run(id).await;
        if now == run {
            let definition = client.definition_of(&run);
            let prefix = format!("{id}/");
            let effects = sinks.iter().flat_map(|sink| sink.effects());
            let effects = effects.filter(|effect| effect.key.starts_with(&prefix)).collect();
            return Record { children, ..Record::new(run, log, definition, effects) };
        }
        run = now;
    }
}
