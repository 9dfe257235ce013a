//! Reads bodies: nodes that stand inside a node and become a definition of their own.
//!
//! Each is checked by a checker of its own, as the document that its run will be pinned to. What that one finds is told
//! where the body stands, and what the body reads outside is a read of the node that has it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::fields::Scope;
use super::node::Draft;
use super::reads::Read;
use super::{BODY_KEY, Checker, Place};
use crate::body::{Body, Called, Capture};
use crate::decide::IN_FLIGHT_MAX;
use crate::plan::{ParallelSpec, Part, Role, WorkflowKind};
use crate::workflow::Document;
use crate::workflow::expression::{Expression, OwnNames, Source};
use crate::workflow::schema::member;
use crate::{Plan, workflow::excerpt};

/// Branches of one node: they are as many runs, and people look at them side by side.
pub(in crate::workflow) const BRANCHES_MAX: usize = 100;
/// What a body of nodes may say.
const BODY_KEYS: &[&str] = &["nodes", "steps", "edges", "outputs", "defaults"];
const MACHINE_BODY_KEYS: &[&str] = &[
    "context", "events", "initial", "states", "on", "always", "after", "entry", "exit", "invoke", "outputs",
    "defaults",
];
/// What a definition says for all of its nodes, those in bodies too.
const SHARED_KEYS: &[&str] = &["error_handlers", "compensation"];

/// What a body's own document says of its surroundings.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum BodyKind {
    /// Beside them stands what belongs to the node that has the body.
    Nodes(&'static [&'static str]),
    Machine,
    /// A map, for some of its items.
    Slice,
}

/// What stands where a node or a body may stand: a list of steps, or a mapping that says no `type`.
pub(super) fn is_body(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(map) => {
            !map.contains_key("type") && ["nodes", "steps"].iter().any(|key| map.contains_key(*key))
        }
        _ => false,
    }
}

impl Checker<'_> {
    /// `do: {nodes: …}` of a map or a loop: a node that runs its body.
    pub(super) fn read_body(&mut self, value: &Value, draft: &mut Draft, beside: &'static [&'static str]) {
        draft.node.kind = "body".into();
        draft.node.retry_safe = true;
        let nothing = Map::new();
        let map = value.as_object().unwrap_or(&nothing);
        self.common_keys(map, draft, None);
        let (pointer, scope) = (draft.pointer.clone(), draft.scope);
        let name = self.body_name(draft, None);
        match self.body(value, &pointer, scope, name, BodyKind::Nodes(beside)) {
            Some(body) => draft.node.role = Role::Workflow(Called::Body(body)),
            None => draft.is_partial = true,
        }
        self.inherit(map, draft);
    }

    /// `type: machine` of a node: a run of it moves by events of its own.
    pub(super) fn machine_node(&mut self, params: &Value, draft: &mut Draft) -> Role {
        let (pointer, scope) = (draft.pointer.clone(), draft.scope);
        let name = self.body_name(draft, None);
        match self.body(params, &pointer, scope, name, BodyKind::Machine) {
            Some(body) => Role::Workflow(Called::Body(body)),
            None => {
                draft.is_partial = true;
                Role::Run
            }
        }
    }

    /// `type: parallel`: its branches are the items of a node inside it.
    pub(super) fn parallel(&mut self, params: &Value, draft: &mut Draft) -> Role {
        self.check_place(draft);
        let pointer = draft.pointer.clone();
        let fail_fast = params
            .get("fail_fast")
            .and_then(|value| self.boolean(value, &member(&pointer, "fail_fast")))
            .unwrap_or(true);
        let parallel_max = params
            .get("max_parallel")
            .and_then(|value| self.number(value, &member(&pointer, "max_parallel"), 1, IN_FLIGHT_MAX as u64))
            .and_then(|it| u32::try_from(it).ok())
            .unwrap_or(BRANCHES_MAX as u32);
        let at = member(&pointer, "branches");
        let written = match params.get("branches") {
            Some(value) => self.object(value, &at, "`branches`"),
            None => {
                self.problem(
                    "missing_field",
                    &pointer,
                    "`branches` is missing: what runs side by side, by name",
                );
                None
            }
        };
        let nothing = Map::new();
        let written = written.unwrap_or(&nothing);
        if params.get("branches").is_some_and(|value| value.as_object().is_some_and(Map::is_empty)) {
            self.problem("missing_field", &at, "there is at least one branch");
        }
        if written.len() > BRANCHES_MAX {
            self.problem("invalid_field", &at, format!("at most {BRANCHES_MAX} branches"));
        }
        let mut branches = Vec::new();
        for (branch, value) in written.iter().take(BRANCHES_MAX) {
            let pointer = member(&at, branch);
            if !super::node::is_id(branch) {
                let detail =
                    format!("`{}` is no name of a branch: it is written as a node's id is", excerpt(branch));
                self.key_problem("bad_id", &pointer, detail);
            }
            let body = match is_body(value) {
                true => {
                    let name = self.body_name(draft, Some(branch));
                    self.body(value, &pointer, draft.scope, name, BodyKind::Nodes(&[]))
                }
                false => {
                    let detail = "a branch is a list of steps, or a mapping with `steps` or `nodes`";
                    self.problem("invalid_field", &pointer, detail);
                    None
                }
            };
            branches.extend(body.map(|body| (branch.clone(), body)));
        }
        draft.is_partial |= branches.len() != written.len() || branches.is_empty();
        let names = branches.iter().map(|(name, _)| name.clone()).collect();
        draft.node.body = Some(self.branches(draft, branches));
        Role::Parallel(ParallelSpec { branches: names, parallel_max, fail_fast })
    }

    /// The node that is run for each branch.
    fn branches(&mut self, owner: &Draft, branches: Vec<(String, Arc<Body>)>) -> crate::NodeIndex {
        let (place, index) = self.place_inside();
        let mut draft = Draft::new(index, format!("{}.branch", owner.node.id), owner.pointer.clone());
        draft.scope = owner.scope;
        draft.node.kind = "body".into();
        draft.node.retry_safe = true;
        draft.node.part = Part::Item { of: owner.node.index };
        draft.node.role = Role::Workflow(Called::Branches(branches));
        self.inside[place] = Some(draft.node);
        index
    }

    /// Names what runs of a body are called: no workflow that somebody wrote has a dot in its name.
    pub(super) fn body_name(&self, owner: &Draft, branch: Option<&str>) -> String {
        let node = owner.node.id.strip_suffix(".do").unwrap_or(&owner.node.id);
        let branch = branch.map(|branch| format!(".{branch}")).unwrap_or_default();
        format!("{}.{node}{branch}", self.name)
    }

    /// Makes a definition of a body, and checks it.
    pub(super) fn body(
        &mut self,
        value: &Value,
        pointer: &str,
        scope: Scope,
        name: String,
        kind: BodyKind,
    ) -> Option<Arc<Body>> {
        let spec = self.body_document(value, pointer, name, kind)?;
        let document = Document::from_value(spec);
        let mut inner = Checker::new(self.catalog);
        inner.may_be_body = true;
        let plan = inner.document(&document.spec);
        let is_list = value.is_array();
        let is_told = self.tell(&inner.problems, pointer, is_list, value);
        if plan.is_none() && !is_told && inner.problems.is_empty() {
            self.problem("invalid_definition", pointer, "this body cannot be understood");
        }
        let own = inner.own.take().map(|own| own.nodes).unwrap_or_default();
        let captures = self.captures(&inner.reads, pointer, is_list, scope, &own);
        let can_compensate = |plan: &Plan| plan.nodes.iter().any(|node| node.compensation.is_some());
        self.bodies_compensate |= plan.as_ref().is_some_and(can_compensate) || inner.bodies_compensate;
        self.asked_to_compensate = self.asked_to_compensate.take().or_else(|| {
            inner
                .asked_to_compensate
                .map(|inside| outer_pointer(&inside, pointer, is_list, value).unwrap_or(inside))
        });
        let plan = plan.filter(|_| inner.problems.is_empty())?;
        Some(Arc::new(Body { plan: Arc::new(plan), spec: document.spec.to_string(), captures }))
    }

    /// The document that a run of the body is pinned to.
    pub(super) fn body_document(
        &mut self,
        value: &Value,
        pointer: &str,
        name: String,
        kind: BodyKind,
    ) -> Option<Value> {
        let mut spec = Map::new();
        spec.insert("version".into(), 1.into());
        spec.insert("name".into(), name.into());
        let sees = self.seen_in_bodies();
        let mut own = match value {
            Value::Array(steps) => Map::from_iter([("steps".to_owned(), Value::Array(steps.clone()))]),
            Value::Object(map) => map.clone(),
            _ => {
                self.problem(
                    "invalid_field",
                    pointer,
                    "a body is a list of steps, or a mapping with `steps` or `nodes`",
                );
                return None;
            }
        };
        let (of_body, beside) = match kind {
            BodyKind::Machine => (MACHINE_BODY_KEYS, [].as_slice()),
            BodyKind::Nodes(beside) => (BODY_KEYS, beside),
            BodyKind::Slice => (BODY_KEYS, [].as_slice()),
        };
        let known: Vec<&str> = of_body.iter().chain(beside).copied().collect();
        self.check_unknown_keys(&own, pointer, &known, &[]);
        own.retain(|key, _| of_body.contains(&key.as_str()));
        let is_steps = own.contains_key("steps");
        let word = match kind {
            BodyKind::Machine => "machine",
            BodyKind::Nodes(_) if own.contains_key("nodes") == is_steps => {
                self.problem("invalid_field", pointer, "a body has either `nodes` or `steps`");
                return None;
            }
            BodyKind::Nodes(_) if is_steps => "steps",
            BodyKind::Nodes(_) | BodyKind::Slice => "dag",
        };
        spec.insert("type".into(), word.into());
        let marker = match kind {
            BodyKind::Slice => json!({ "sees": sees, "slice": true }),
            _ => json!({ "sees": sees }),
        };
        spec.insert(BODY_KEY.into(), marker);
        let last = own.get("steps").and_then(last_step).map(str::to_owned);
        for (key, value) in own {
            if key != "defaults" {
                spec.insert(key, value);
            } else if let Some(own) = value.as_object() {
                let mut defaults =
                    self.shared.get("defaults").and_then(Value::as_object).cloned().unwrap_or_default();
                defaults.extend(own.clone());
                spec.insert("defaults".into(), defaults.into());
            } else {
                self.problem("invalid_field", &member(pointer, "defaults"), "`defaults` is a mapping");
            }
        }
        // Steps lead to the last one.
        if let Some(last) = last {
            spec.entry("outputs").or_insert_with(|| format!("${{{{ nodes['{last}'].output }}}}").into());
        }
        let mut defaults = match spec.get("defaults").or(self.shared.get("defaults")) {
            Some(Value::Object(defaults)) => defaults.clone(),
            _ => Map::new(),
        };
        // What was said for all nodes of the definition about errors, the node that has the body obeys.
        let is_own = value.get("defaults").is_some_and(|own| own.get("on_error").is_some());
        if !is_own {
            defaults.insert("on_error".into(), "fail".into());
        }
        spec.insert("defaults".into(), defaults.into());
        for key in SHARED_KEYS {
            if let Some(value) = self.shared.get(*key) {
                spec.insert((*key).into(), value.clone());
            }
        }
        Some(self.with_callees(spec))
    }

    /// Brings along the tools and agents that the body calls.
    fn with_callees(&self, spec: Map<String, Value>) -> Value {
        let mut document = Document::from_value(Value::Object(spec));
        for (kind, name) in document.missing_callees() {
            let found = self.shared.get(kind.plural()).and_then(|callees| callees.get(&name));
            if let Some(callee) = found {
                document.bring(kind, &name, callee.clone());
            }
        }
        document.spec
    }

    /// What the items around a body are called, from the outermost on.
    fn seen_in_bodies(&self) -> BTreeSet<String> {
        let outer = self.own.as_ref().map(|own| own.outer_items.clone()).unwrap_or_default();
        outer.into_iter().chain(self.item_name.clone()).collect()
    }

    /// Notes the problems of a body where it stands. False when there were some and all of them are told elsewhere.
    fn tell(
        &mut self,
        problems: &[(crate::workflow::Problem, Place)],
        pointer: &str,
        is_list: bool,
        value: &Value,
    ) -> bool {
        let mut is_told = problems.is_empty();
        for (problem, place) in problems {
            let Some(outer) = outer_pointer(&problem.pointer, pointer, is_list, value) else { continue };
            is_told = true;
            match place {
                Place::Key => self.key_problem(problem.code, &outer, problem.detail.clone()),
                Place::Value => self.problem(problem.code, &outer, problem.detail.clone()),
            }
        }
        if let (false, Some((problem, _))) = (is_told, problems.first()) {
            // Normally the definition itself has told it; what is told twice is told once.
            self.problem(problem.code, &problem.pointer, problem.detail.clone());
        }
        is_told
    }

    /// What the body reads outside, as reads of the node that has it.
    pub(super) fn captures(
        &mut self,
        reads: &[Read],
        pointer: &str,
        is_list: bool,
        scope: Scope,
        own: &BTreeSet<String>,
    ) -> Vec<Capture> {
        let mut captures: Vec<Capture> = Vec::new();
        let mut wanted: BTreeSet<Vec<String>> = BTreeSet::new();
        for read in reads.iter().filter(|read| read.is_outside()) {
            let inside = read.pointer();
            let outer =
                outer_pointer(inside, pointer, is_list, &Value::Null).unwrap_or_else(|| inside.to_owned());
            match Expression::compile_with(&read.reference().outside_text(), self.names(scope)) {
                Ok(expression) => {
                    // A machine has no nodes, so one of the body's own was meant.
                    if let (Some(_), Some(node)) = (scope.machine, node_read(&expression)) {
                        let ids = own.iter().cloned().zip(0..).collect();
                        self.unknown_node(node, &outer, &ids);
                        continue;
                    }
                    self.note_reads(&outer, scope, expression.references());
                    let to: Vec<String> =
                        read.reference().outside_keys().into_iter().map(str::to_owned).collect();
                    let from = expression.references().first().cloned();
                    if let Some(from) = from.filter(|_| wanted.insert(to.clone())) {
                        captures.push(Capture { to, from });
                    }
                }
                Err(detail) => self.problem("bad_expression", &outer, detail),
            }
        }
        // The whole holds its parts.
        captures
            .retain(|capture| (1..capture.to.len()).all(|length| !wanted.contains(&capture.to[..length])));
        captures.sort_by(|a, b| a.to.cmp(&b.to));
        captures
    }

    /// The marker in a body's own document.
    pub(super) fn read_body_key(&mut self, map: &Map<String, Value>, kind: WorkflowKind) {
        let Some(marker) = map.get(BODY_KEY).filter(|_| self.may_be_body) else { return };
        self.is_slice = marker.get("slice") == Some(&Value::Bool(true));
        let sees = marker.get("sees").and_then(Value::as_array).into_iter().flatten();
        let written = map.get(if kind == WorkflowKind::Steps { "steps" } else { "nodes" });
        let nodes = match written {
            Some(Value::Object(map)) => map.keys().cloned().collect(),
            Some(Value::Array(list)) => {
                let ids = list.iter().filter_map(|node| node.get("id").and_then(Value::as_str));
                ids.map(str::to_owned).collect()
            }
            _ => BTreeSet::new(),
        };
        self.own = Some(OwnNames {
            nodes,
            outer_items: sees.filter_map(Value::as_str).map(str::to_owned).collect(),
        });
    }
}

/// Where something in a body's document stands in the definition; none for what the definition says itself.
fn outer_pointer(inside: &str, pointer: &str, is_list: bool, value: &Value) -> Option<String> {
    let first = inside.split('/').nth(1).unwrap_or_default();
    let is_shared = SHARED_KEYS.contains(&first)
        || ["tools", "agents", BODY_KEY].contains(&first)
        || (first == "defaults" && value.get("defaults").is_none());
    if is_shared {
        return None;
    }
    let inside = if is_list { inside.strip_prefix("/steps").unwrap_or("") } else { inside };
    Some(match first {
        "version" | "name" | "type" => pointer.to_owned(),
        _ => format!("{pointer}{inside}"),
    })
}

fn node_read(expression: &Expression) -> Option<&str> {
    expression.references().iter().find_map(|reference| match &reference.source {
        Source::Output { node } | Source::Status { node } | Source::Error { node } => Some(node.as_str()),
        _ => None,
    })
}

fn last_step(steps: &Value) -> Option<&str> {
    match steps {
        Value::Array(list) => list.last()?.get("id")?.as_str(),
        Value::Object(map) => map.keys().next_back().map(String::as_str),
        _ => None,
    }
    .filter(|id| super::node::is_id(id))
}
