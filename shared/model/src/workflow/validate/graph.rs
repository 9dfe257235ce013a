//! Who needs whom: needs, edges, cycles, layers, branches.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::Scope;
use super::node::Draft;
use super::{Checker, EDGES_MAX};
use crate::NodeIndex;
use crate::plan::{Accept, Need, WorkflowKind};
use crate::workflow::parse::PROBLEMS_MAX;
use crate::workflow::schema::member;
use crate::workflow::{closest, excerpt};

/// How many separate cycles one report names.
const CYCLES_MAX: usize = 10;
/// How many nodes of one cycle a sentence names.
const CYCLE_NAMES_MAX: usize = 10;

/// A need as it was written.
pub(super) struct NeedDraft {
    pub id: String,
    pub accept: Accept,
    pub pointer: String,
}

impl Checker<'_> {
    pub(super) fn needs(&mut self, value: &Value, pointer: &str) -> Vec<NeedDraft> {
        if let Some(id) = value.as_str() {
            return vec![NeedDraft { id: id.into(), accept: Accept::Default, pointer: pointer.into() }];
        }
        let Some(list) = self.list(value, pointer, "needed nodes") else { return Vec::new() };
        list.iter().enumerate().filter_map(|(at, need)| self.need(need, &format!("{pointer}/{at}"))).collect()
    }

    fn need(&mut self, value: &Value, pointer: &str) -> Option<NeedDraft> {
        if let Some(id) = value.as_str() {
            return Some(NeedDraft { id: id.into(), accept: Accept::Default, pointer: pointer.into() });
        }
        let Some(map) = value.as_object() else {
            self.problem(
                "invalid_field",
                pointer,
                "a need is a node's id, or {node: id, accept: [succeeded, skipped]}",
            );
            return None;
        };
        self.check_unknown_keys(map, pointer, &["node", "accept"], &[]);
        let Some(id) = map.get("node").and_then(Value::as_str) else {
            self.problem("missing_field", pointer, "`node` is missing: the id of the needed node");
            return None;
        };
        let accept = match map.get("accept") {
            Some(accept) => self.accept(accept, &member(pointer, "accept"))?,
            None => Accept::Default,
        };
        Some(NeedDraft { id: id.to_owned(), accept, pointer: member(pointer, "node") })
    }

    fn accept(&mut self, value: &Value, pointer: &str) -> Option<Accept> {
        let list = self.list(value, pointer, "accepted ends")?;
        if list.is_empty() {
            self.problem("invalid_field", pointer, "nothing is accepted, so this node could never run");
        }
        let (mut succeeded, mut skipped, mut failed) = (false, false, false);
        for (at, value) in list.iter().enumerate().take(3) {
            let words = [("succeeded", 0), ("skipped", 1), ("failed", 2)];
            match self.word(value, &format!("{pointer}/{at}"), &words) {
                Some(0) => succeeded = true,
                Some(1) => skipped = true,
                Some(_) => failed = true,
                None => {}
            }
        }
        Some(Accept::Listed { succeeded, skipped, failed })
    }

    /// The list form: `edges: [{from, to, when}]`.
    pub(super) fn edges(&mut self, value: &Value, drafts: &mut [Draft], ids: &BTreeMap<String, usize>) {
        let Some(list) = self.list(value, "/edges", "edges") else { return };
        for (at, edge) in list.iter().enumerate() {
            let pointer = format!("/edges/{at}");
            let Some(map) = self.object(edge, &pointer, "an edge") else { continue };
            self.check_unknown_keys(map, &pointer, &["from", "to", "when"], &["map"]);
            let mut end = |key: &str| match map.get(key) {
                Some(Value::String(id)) => Some((id.as_str(), member(&pointer, key))),
                Some(_) => {
                    self.problem("invalid_field", &member(&pointer, key), "this is a node's id");
                    None
                }
                None => {
                    self.problem("missing_field", &pointer, format!("`{key}` is missing: a node's id"));
                    None
                }
            };
            let (Some((from, from_pointer)), Some((to, to_pointer))) = (end("from"), end("to")) else {
                continue;
            };
            let Some(target) = ids.get(to).copied() else {
                self.unknown_node(to, &to_pointer, ids);
                continue;
            };
            if let Some(when) = map.get("when") {
                let condition = self.condition(when, &member(&pointer, "when"), Scope::node(target));
                drafts[target].edge_conditions.extend(condition.map(|when| when.text().to_owned()));
            }
            let need = NeedDraft { id: from.to_owned(), accept: Accept::Default, pointer: from_pointer };
            drafts[target].needs.push(need);
        }
    }

    /// Turns ids into indices.
    pub(super) fn connect(
        &mut self,
        drafts: &mut [Draft],
        ids: &BTreeMap<String, usize>,
        kind: WorkflowKind,
    ) {
        let mut edges = 0;
        for (at, draft) in drafts.iter_mut().enumerate() {
            draft.join_conditions();
            edges += draft.needs.len();
            if edges > EDGES_MAX {
                let detail = format!("more than {EDGES_MAX} needs and edges in all");
                self.problem("too_many_edges", "", detail);
                return;
            }
            draft.node.needs = match kind {
                WorkflowKind::Steps => step_before(at),
                WorkflowKind::Dag | WorkflowKind::Machine => self.connected(draft, at, ids),
            };
        }
        self.check_branches(drafts, ids, kind);
    }

    fn connected(&mut self, draft: &Draft, at: usize, ids: &BTreeMap<String, usize>) -> Vec<Need> {
        let mut seen = BTreeSet::new();
        let mut needs = Vec::new();
        for written in &draft.needs {
            match ids.get(&written.id).copied() {
                None => self.unknown_node(&written.id, &written.pointer, ids),
                Some(needed) if needed == at => {
                    let detail = format!("`{}` cannot need itself", written.id);
                    self.problem("cycle", &written.pointer, detail);
                }
                Some(needed) if !seen.insert(needed) => {
                    let detail = format!("`{}` is needed twice here", written.id);
                    self.problem("duplicate_need", &written.pointer, detail);
                }
                Some(needed) => needs.push(need(needed, written.accept)),
            }
        }
        needs
    }

    pub(super) fn unknown_node(&mut self, id: &str, pointer: &str, ids: &BTreeMap<String, usize>) {
        // Comparing with thousands of names is for the first mistakes, not for thousands of them.
        let near = (self.problems.len() < PROBLEMS_MAX)
            .then(|| closest(id, ids.keys().map(String::as_str)))
            .flatten();
        let detail = match near {
            Some(near) => format!("there is no node `{}`; did you mean `{near}`?", excerpt(id)),
            None => format!("there is no node `{}`", excerpt(id)),
        };
        self.problem("unknown_node", pointer, detail);
    }

    /// What a switch names must be there and wait for it: otherwise the choice would choose nothing.
    fn check_branches(&mut self, drafts: &[Draft], ids: &BTreeMap<String, usize>, kind: WorkflowKind) {
        for draft in drafts.iter().filter(|draft| draft.node.kind == "switch") {
            let params = draft.node.params.source();
            let mut lists = Vec::new();
            for (at, case) in params.get("cases").and_then(Value::as_array).into_iter().flatten().enumerate()
            {
                let pointer = format!("{}/cases/{at}", draft.pointer);
                self.check_when(case, &pointer);
                lists.push((format!("{pointer}/then"), case.get("then")));
            }
            lists.push((format!("{}/default", draft.pointer), params.get("default")));
            for (pointer, list) in lists {
                for (at, target) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
                    let Some(id) = target.as_str() else { continue };
                    let pointer = format!("{pointer}/{at}");
                    let Some(target) = ids.get(id) else {
                        self.unknown_node(id, &pointer, ids);
                        continue;
                    };
                    let waits = drafts[*target].node.needs.iter().any(|need| need.node == draft.node.index);
                    if !waits {
                        self.problem("unreachable", &pointer, branch_detail(&draft.node.id, id, kind));
                    }
                }
            }
        }
    }

    /// Unlike `if`, this is a value like others: text without delimiters would stay text, and never be true.
    fn check_when(&mut self, case: &Value, pointer: &str) {
        let text = case.get("when").and_then(Value::as_str).filter(|text| !text.contains("${{"));
        if let Some(text) = text {
            let detail = format!("this is text; an expression is written as `${{{{ {} }}}}`", excerpt(text));
            self.problem("invalid_field", &member(pointer, "when"), detail);
        }
    }

    /// An order in which each node comes after those it needs; nothing when there is none.
    pub(super) fn order(&mut self, drafts: &[Draft], kind: WorkflowKind) -> Option<Vec<usize>> {
        if kind != WorkflowKind::Dag {
            return Some((0..drafts.len()).collect());
        }
        let mut dependents = vec![Vec::new(); drafts.len()];
        let mut unmet: Vec<usize> = drafts.iter().map(|draft| draft.node.needs.len()).collect();
        for (at, draft) in drafts.iter().enumerate() {
            for need in &draft.node.needs {
                dependents[need.node.at()].push(at);
            }
        }
        let mut order = Vec::with_capacity(drafts.len());
        settle(&mut order, &mut unmet, &dependents, (0..drafts.len()).collect());
        if order.len() == drafts.len() {
            return Some(order);
        }
        for _ in 0..CYCLES_MAX {
            let Some(cycle) = find_cycle(drafts, &unmet) else { break };
            self.report_cycle(drafts, &cycle);
            // As if the cycle were cut: what hangs on it alone is not a cycle of its own.
            for at in &cycle {
                unmet[*at] = 0;
            }
            settle(&mut order, &mut unmet, &dependents, cycle);
        }
        None
    }

    fn report_cycle(&mut self, drafts: &[Draft], cycle: &[usize]) {
        let first = cycle[0];
        let mut names: Vec<&str> = cycle.iter().map(|at| drafts[*at].node.id.as_str()).collect();
        let is_long = names.len() > CYCLE_NAMES_MAX;
        names.truncate(CYCLE_NAMES_MAX);
        if is_long {
            names.push("…");
        }
        names.push(&drafts[first].node.id);
        let last = cycle[cycle.len() - 1];
        let need = drafts[first].needs.iter().find(|need| need.id == drafts[last].node.id);
        let pointer = need.map_or(drafts[first].pointer.as_str(), |need| need.pointer.as_str()).to_owned();
        self.problem("cycle", &pointer, format!("these nodes need each other: {}", names.join(" → ")));
    }
}

/// What failed and was continued, or was skipped, does not hold up the steps after it.
fn step_before(at: usize) -> Vec<Need> {
    let accept = Accept::Listed { succeeded: true, skipped: true, failed: true };
    at.checked_sub(1).map(|before| need(before, accept)).into_iter().collect()
}

fn need(at: usize, accept: Accept) -> Need {
    Need { node: NodeIndex(u16::try_from(at).unwrap_or(u16::MAX)), accept }
}

fn branch_detail(switch: &str, target: &str, kind: WorkflowKind) -> String {
    match kind {
        WorkflowKind::Dag | WorkflowKind::Machine => {
            format!("`{target}` does not wait for this choice: add `{switch}` to its `needs`")
        }
        WorkflowKind::Steps => {
            "steps run one after the other: a switch can only name the step right after it; use `if`, or `type: dag`"
                .into()
        }
    }
}

/// Takes every candidate without unmet needs, and what becomes free by it.
fn settle(order: &mut Vec<usize>, unmet: &mut [usize], dependents: &[Vec<usize>], candidates: Vec<usize>) {
    let mut free: std::collections::VecDeque<usize> =
        candidates.into_iter().filter(|at| unmet[*at] == 0).collect();
    while let Some(at) = free.pop_front() {
        order.push(at);
        for dependent in &dependents[at] {
            if unmet[*dependent] > 0 {
                unmet[*dependent] -= 1;
                if unmet[*dependent] == 0 {
                    free.push_back(*dependent);
                }
            }
        }
    }
}

/// Follows unmet needs from the first node that has one, until a node comes up again. In the order in
/// which the nodes would have to run.
fn find_cycle(drafts: &[Draft], unmet: &[usize]) -> Option<Vec<usize>> {
    let mut at = unmet.iter().position(|unmet| *unmet > 0)?;
    let mut path = Vec::new();
    let mut position = BTreeMap::new();
    loop {
        if let Some(start) = position.insert(at, path.len()) {
            let mut cycle: Vec<usize> = path.drain(start..).collect();
            cycle.reverse();
            // From the node that stands first in the document.
            let first = cycle.iter().enumerate().min_by_key(|(_, at)| **at).map_or(0, |(first, _)| first);
            cycle.rotate_left(first);
            return Some(cycle);
        }
        path.push(at);
        at = drafts[at].node.needs.iter().map(|need| need.node.at()).find(|needed| unmet[*needed] > 0)?;
    }
}

/// Nodes that can run side by side: each one layer after the last of its needs.
pub(super) fn layers(drafts: &[Draft], order: &[usize]) -> Vec<Vec<NodeIndex>> {
    let mut layer_of = vec![0; drafts.len()];
    let mut layers: Vec<Vec<NodeIndex>> = Vec::new();
    for at in order {
        let node = &drafts[*at].node;
        let layer = node.needs.iter().map(|need| layer_of[need.node.at()] + 1).max().unwrap_or(0);
        layer_of[*at] = layer;
        if layers.len() <= layer {
            layers.push(Vec::new());
        }
        layers[layer].push(node.index);
    }
    for layer in &mut layers {
        layer.sort_unstable();
    }
    layers
}
