//! Checks a document as a whole and builds its plan.
//!
//! Checking never stops at the first problem: what could not be read is left out of the plan, the rest
//! is checked on, and everything that was found is reported in the order of the document.

mod body;
mod callees;
mod calls;
mod errors;
mod fan;
mod fields;
mod graph;
mod inside;
mod machine;
mod node;
mod reads;
mod settings;
mod slice;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::expression::OwnNames;
use super::parse::{DEPTH_MAX, PROBLEMS_MAX, Place, VALUES_MAX};
use super::schema::{Schema, member};
use super::{Catalog, Document, Problem, excerpt};
use crate::callee::{Callee, CalleeKind};
use crate::plan::{Plan, Role, WorkflowKind};
use crate::{Digest, NodeIndex};
pub(super) use body::BRANCHES_MAX;
pub(super) use callees::CALLEE_KEYS;
pub use callees::{CALLEE_CHARS_MAX, CALLEES_MAX, is_callee_name};
pub(super) use errors::action_words;
use fields::Scope;
use node::Draft;
pub(super) use node::{CALLERS_KEYS, CALLERS_OF_HOSTS, COMMON_KEYS};

/// A run's state holds one step per node, and an engine keeps it in memory.
pub const NODES_MAX: usize = 5_000;
pub const EDGES_MAX: usize = 50_000;
pub const ID_CHARS_MAX: usize = 64;
pub const NAME_CHARS_MAX: usize = 63;
pub const TAGS_MAX: usize = 20;
pub const TAG_CHARS_MAX: usize = 64;
pub const DESCRIPTION_CHARS_MAX: usize = 4_000;
/// Pointers consist of keys, and every problem carries one.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Problems are gathered beyond what is shown, because they are sorted first; but not without end.
const GATHERED_MAX: usize = 10 * PROBLEMS_MAX;

/// What a definition may say at its top.
const KEYS: &[&str] = &[
    "version",
    "name",
    "type",
    "description",
    "tags",
    "inputs",
    "outputs",
    "on_error",
    "error_handlers",
    "compensation",
    "concurrency",
    "rate_limit",
    "defaults",
    "timeout",
    "steps",
    "nodes",
    "edges",
    "tools",
    "agents",
    "context",
    "events",
    "initial",
    "states",
    "on",
    "always",
    "after",
    "entry",
    "exit",
    "invoke",
];
/// What of it only machines have.
const MACHINE_KEYS: &[&str] =
    &["context", "events", "initial", "states", "on", "always", "after", "entry", "exit", "invoke"];
/// Only in the documents that bodies become: what surrounds them. No definition that somebody writes has it.
const BODY_KEY: &str = "body";
/// All mean the same: which of their states hold graphs, machines say themselves.
const MACHINE_TYPES: &[&str] = &["machine", "state_machine", "hybrid"];
/// Keys of the format that arrive with a later version.
const LATER_KEYS: &[&str] = &["vars", "workflow", "cases", "variants", "strategy", "mock", "score", "gates"];
const LATER_TYPES: &[&str] = &["bench"];

enum Kind {
    Known(WorkflowKind),
    /// Of the format, but not of this version: nothing else in it can be judged.
    Later,
    Unknown,
}

pub fn compile(document: &Document, catalog: &Catalog) -> Result<Plan, Vec<Problem>> {
    let mut checker = Checker::new(catalog);
    let plan = checker.document(&document.spec);
    checker.judge(document, plan)
}

/// What was stored may be a body.
pub fn compile_stored(document: &Document, catalog: &Catalog) -> Result<Plan, Vec<Problem>> {
    let mut checker = Checker::new(catalog);
    checker.may_be_body = true;
    let plan = checker.document(&document.spec);
    checker.judge(document, plan)
}

pub fn compile_callee(
    document: &Document,
    kind: CalleeKind,
    catalog: &Catalog,
) -> Result<Callee, Vec<Problem>> {
    let mut checker = Checker::new(catalog);
    let callee = checker.registered(kind, &document.spec);
    checker.judge(document, callee)
}

pub fn check_callees(document: &Document, catalog: &Catalog) -> Result<(), Vec<Problem>> {
    let mut checker = Checker::new(catalog);
    if checker.check_values(&document.spec).is_some()
        && let Some(map) = document.spec.as_object()
    {
        checker.callees(map);
        checker.check_reads(&[], None, None);
    }
    checker.judge(document, Some(()))
}

/// Whether a workflow may have this name.
pub fn is_workflow_name(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
}

struct Checker<'a> {
    catalog: &'a Catalog,
    problems: Vec<(Problem, Place)>,
    /// Everything that the definition's expressions read.
    reads: Vec<reads::Read>,
    /// Compiled once for each kind that is used.
    kind_schemas: BTreeMap<&'static str, Option<node::KindSchema>>,
    /// The tools and agents that the definition brings along; none for one that was not understood.
    callees: BTreeMap<(CalleeKind, String), Option<Arc<Callee>>>,
    defaults: settings::Defaults,
    /// How many nodes stand under `nodes` or `steps`.
    main_count: usize,
    /// What the definition is called.
    name: String,
    /// What it says for all of its nodes, and for those in bodies.
    shared: Map<String, Value>,
    /// It is known to come from a definition that was checked.
    may_be_body: bool,
    /// In a body: what is its own.
    own: Option<OwnNames>,
    /// It is a map once more, for some of its items.
    is_slice: bool,
    /// A node in one of its bodies says how it is undone.
    bodies_compensate: bool,
    /// What the item is called, while what is done for it is being read.
    item_name: Option<String>,
    /// Those that stand inside them; none while one is being read.
    inside: Vec<Option<crate::plan::Node>>,
    /// The first place where an error rule asks for it.
    asked_to_compensate: Option<String>,
}

impl<'a> Checker<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            problems: Vec::new(),
            reads: Vec::new(),
            kind_schemas: BTreeMap::new(),
            callees: BTreeMap::new(),
            defaults: settings::Defaults::default(),
            main_count: 0,
            name: String::new(),
            shared: Map::new(),
            may_be_body: false,
            own: None,
            is_slice: false,
            bodies_compensate: false,
            item_name: None,
            inside: Vec::new(),
            asked_to_compensate: None,
        }
    }

    fn judge<T>(self, document: &Document, read: Option<T>) -> Result<T, Vec<Problem>> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            _ => {
                let mut problems = document.arrange(self.problems);
                problems.truncate(PROBLEMS_MAX);
                Err(problems)
            }
        }
    }
}

impl Checker<'_> {
    /// Nothing when the document cannot be understood at all.
    fn document(&mut self, spec: &Value) -> Option<Plan> {
        let Some(map) = spec.as_object() else {
            self.problem(
                "invalid_definition",
                "",
                "a definition is a mapping with `version`, `name` and `type`",
            );
            return None;
        };
        self.check_size(map)?;
        self.check_values(spec)?;
        let kind = match self.kind(map) {
            Kind::Known(kind) => kind,
            Kind::Later => return None,
            Kind::Unknown => {
                self.check_version(map);
                self.workflow_name(map);
                self.check_unknown_keys(map, "", KEYS, LATER_KEYS);
                return None;
            }
        };
        self.read_body_key(map, kind);
        self.check_keys(map, kind);
        self.check_version(map);
        let name = self.workflow_name(map);
        self.name.clone_from(&name);
        self.check_labels(map);
        for key in ["defaults", "error_handlers", "compensation", "tools", "agents"] {
            self.shared.extend(map.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        self.read_defaults(map);
        let inputs = map.get("inputs").and_then(|inputs| self.input_schema(inputs));
        self.callees(map);
        let (drafts, machine) = match kind {
            WorkflowKind::Machine => self.machine(map),
            WorkflowKind::Steps | WorkflowKind::Dag => (self.nodes(map, kind), None),
        };
        let order = self.order(&drafts, kind);
        let scope = match kind {
            WorkflowKind::Machine => Scope::machine(&["context", "output"]),
            WorkflowKind::Steps | WorkflowKind::Dag => Scope::outputs(),
        };
        let outputs =
            map.get("outputs").and_then(|outputs| self.template(outputs.clone(), "/outputs", scope));
        let timeout = map.get("timeout").and_then(|timeout| self.duration(timeout, "/timeout"));
        let concurrency = self.concurrency(map);
        let rate_limit =
            map.get("rate_limit").and_then(|limit| self.rate_limit(limit, "/rate_limit", "runs"));
        let compensation = self.compensation(map);
        self.check_compensation(&drafts);
        self.check_reads(&drafts, order.as_deref(), inputs.as_ref());
        self.check_endless_calls(&name, kind, &drafts, order.as_deref());
        let hash = Digest::of(spec.to_string().as_bytes());
        let (nodes, groups) = self.finish(drafts, order?);
        if kind == WorkflowKind::Machine && machine.is_none() {
            return None;
        }
        let by_id = nodes.iter().map(|node| (node.id.clone(), node.index)).collect();
        Some(Plan {
            name,
            kind,
            hash,
            nodes,
            by_id,
            groups,
            inputs,
            outputs,
            timeout,
            concurrency,
            rate_limit,
            compensation,
            machine,
        })
    }

    /// Before anything looks at each node: refuses at once what is far too large.
    fn check_size(&mut self, map: &Map<String, Value>) -> Option<()> {
        let length = |value: &Value| match value {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        };
        for (keys, max, code) in [
            (["steps", "nodes"].as_slice(), NODES_MAX, "too_many_nodes"),
            (&["edges"], EDGES_MAX, "too_many_edges"),
        ] {
            for key in keys {
                let found = map.get(*key).map_or(0, length);
                if found > max {
                    self.problem(code, &member("", key), format!("{found} {key}; at most {max} are allowed"));
                    return None;
                }
            }
        }
        Some(())
    }

    /// Documents that came as values have not gone through a reader of ours.
    fn check_values(&mut self, spec: &Value) -> Option<()> {
        let mut open = vec![(spec, 1)];
        let mut counted = 0;
        while let Some((value, depth)) = open.pop() {
            counted += 1;
            if depth > DEPTH_MAX + 1 {
                self.problem("too_deep", "", format!("values nest deeper than {DEPTH_MAX} levels"));
                return None;
            }
            if counted > VALUES_MAX {
                let detail = format!("the document holds more than {VALUES_MAX} values");
                self.problem("document_too_large", "", detail);
                return None;
            }
            match value {
                Value::String(text) => self.check_text(text)?,
                Value::Array(list) => open.extend(list.iter().map(|inner| (inner, depth + 1))),
                Value::Object(map) => {
                    open.extend(map.values().map(|inner| (inner, depth + 1)));
                    map.keys().try_for_each(|key| self.check_key(key))?;
                }
                _ => {}
            }
        }
        Some(())
    }

    fn check_text(&mut self, text: &str) -> Option<()> {
        if text.contains('\0') {
            self.problem("nul_character", "", "text must not hold the character NUL (\\u0000)");
            return None;
        }
        Some(())
    }

    fn check_key(&mut self, key: &str) -> Option<()> {
        if key.len() > KEY_BYTES_MAX {
            let detail = format!("the key `{}` has more than {KEY_BYTES_MAX} bytes", excerpt(key));
            self.problem("key_too_long", "", detail);
            return None;
        }
        self.check_text(key)
    }

    fn kind(&mut self, map: &Map<String, Value>) -> Kind {
        match map.get("type") {
            Some(Value::String(kind)) if kind == "steps" => Kind::Known(WorkflowKind::Steps),
            Some(Value::String(kind)) if kind == "dag" => Kind::Known(WorkflowKind::Dag),
            Some(Value::String(kind)) if MACHINE_TYPES.contains(&kind.as_str()) => {
                Kind::Known(WorkflowKind::Machine)
            }
            Some(Value::String(kind)) if LATER_TYPES.contains(&kind.as_str()) => {
                let detail =
                    format!("`type: {kind}` is not there yet in this version; use steps, dag or machine");
                self.problem("unsupported", "/type", detail);
                Kind::Later
            }
            Some(_) => {
                self.problem("invalid_field", "/type", "`type` is `steps`, `dag` or `machine`");
                Kind::Unknown
            }
            None => {
                self.problem("missing_field", "", "`type` is missing: `steps`, `dag` or `machine`");
                Kind::Unknown
            }
        }
    }

    fn check_keys(&mut self, map: &Map<String, Value>, kind: WorkflowKind) {
        let (right, wrong) = match kind {
            WorkflowKind::Steps => ("steps", ["nodes", "edges"].as_slice()),
            WorkflowKind::Dag => ("nodes", ["steps"].as_slice()),
            WorkflowKind::Machine => ("states", ["steps", "nodes", "edges"].as_slice()),
        };
        let of_machines = if kind == WorkflowKind::Machine { &[] } else { MACHINE_KEYS };
        for key in wrong.iter().chain(of_machines).filter(|key| map.contains_key(**key)) {
            let detail = format!("`{key}` does not go with this `type`; write `{right}`");
            self.key_problem("invalid_field", &member("", key), detail);
        }
        let own = self.own.as_ref().map(|_| BODY_KEY);
        let keys: Vec<&str> = KEYS.iter().copied().chain(own).collect();
        self.check_unknown_keys(map, "", &keys, LATER_KEYS);
    }

    fn check_version(&mut self, map: &Map<String, Value>) {
        match map.get("version") {
            Some(version) if version.as_u64() == Some(1) => {}
            Some(_) => self.problem("unsupported_version", "/version", "this Windlass reads `version: 1`"),
            None => self.problem("missing_field", "", "`version` is missing: write `version: 1`"),
        }
    }

    fn workflow_name(&mut self, map: &Map<String, Value>) -> String {
        match map.get("name") {
            Some(Value::String(name)) if is_workflow_name(name) || self.own.is_some() => name.clone(),
            Some(_) => {
                let detail = format!(
                    "a name starts with a small letter and goes on with small letters, digits, `_` and `-`, \
                     {NAME_CHARS_MAX} characters at most"
                );
                self.problem("bad_name", "/name", detail);
                String::new()
            }
            None => {
                self.problem("missing_field", "", "`name` is missing");
                String::new()
            }
        }
    }

    fn check_labels(&mut self, map: &Map<String, Value>) {
        if let Some(description) = map.get("description") {
            self.check_description(description, "/description");
        }
        let Some(tags) = map.get("tags") else { return };
        let Some(tags) = self.list(tags, "/tags", "tags") else { return };
        if tags.len() > TAGS_MAX {
            self.problem("invalid_field", "/tags", format!("at most {TAGS_MAX} tags"));
        }
        for (at, tag) in tags.iter().enumerate().take(TAGS_MAX) {
            let pointer = format!("/tags/{at}");
            let is_tag = |tag: &str| {
                !tag.is_empty()
                    && tag.len() <= TAG_CHARS_MAX
                    && tag.bytes().all(|byte| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/')
                    })
            };
            if !tag.as_str().is_some_and(is_tag) {
                let detail = format!("a tag has 1 to {TAG_CHARS_MAX} letters, digits and `_ - . : /`");
                self.problem("invalid_field", &pointer, detail);
            }
        }
    }

    fn input_schema(&mut self, inputs: &Value) -> Option<Schema> {
        let schema = self.schema(inputs, "/inputs")?;
        let kind = inputs.get("type");
        if kind.is_some_and(|kind| kind != "object") {
            self.problem("bad_schema", "/inputs/type", "inputs are an object: write `type: object`");
        }
        for (name, _) in inputs.as_object().into_iter().flatten().filter(|(name, it)| is_no_keyword(name, it))
        {
            let detail = format!(
                "`{}` is no keyword of a JSON Schema and would check nothing: inputs stand under `properties`",
                excerpt(name)
            );
            self.key_problem("bad_schema", &member("/inputs", name), detail);
        }
        for (name, violation) in schema.broken_defaults() {
            let pointer = format!("{}/default{}", member("/inputs/properties", &name), violation.pointer);
            self.problem(
                "bad_schema",
                &pointer,
                format!("the default breaks its own schema: {}", violation.detail),
            );
        }
        Some(schema)
    }

    /// Gives the drafts their dependents and layers, and takes the plan's nodes out of them.
    fn finish(
        &mut self,
        drafts: Vec<Draft>,
        order: Vec<usize>,
    ) -> (Vec<crate::plan::Node>, Vec<Vec<NodeIndex>>) {
        let groups = graph::layers(&drafts, &order);
        let mut dependents = vec![Vec::new(); drafts.len()];
        for draft in &drafts {
            for need in &draft.node.needs {
                dependents[need.node.at()].push(draft.node.index);
            }
        }
        let mut read = vec![false; drafts.len()];
        for draft in &drafts {
            let joins_needs = matches!(&draft.node.role, Role::Join(spec) if spec.over.is_none());
            for need in draft.node.needs.iter().filter(|_| joins_needs) {
                read[need.node.at()] = true;
            }
            if joins_needs && draft.node.needs.is_empty() {
                let detail = "it needs no node and has no list (`over`): what is to be joined?";
                self.problem("missing_field", &draft.pointer, detail);
            }
        }
        for index in self.reads.iter().filter_map(reads::Read::output) {
            read[index] = true;
        }
        let nodes = drafts
            .into_iter()
            .zip(dependents)
            .zip(read)
            .map(|((draft, dependents), is_read)| {
                let mut node = draft.node;
                // What a switch took is read by the nodes that it decides about.
                node.output_is_read = is_read || (node.kind == "switch" && !dependents.is_empty());
                node.dependents = dependents;
                node
            })
            .chain(std::mem::take(&mut self.inside).into_iter().flatten())
            .collect();
        (nodes, groups)
    }
}

/// Whether a member of a schema looks like a property that somebody meant to declare. JSON Schema passes over what it
/// does not know, and annotations of others are welcome.
fn is_no_keyword(name: &str, value: &Value) -> bool {
    const WITH_SCHEMAS: &[&str] = &[
        "$defs",
        "$vocabulary",
        "additionalProperties",
        "const",
        "contains",
        "contentSchema",
        "default",
        "definitions",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "items",
        "not",
        "patternProperties",
        "properties",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ];
    value.is_object() && !WITH_SCHEMAS.contains(&name) && !name.starts_with("x-")
}
