//! Reads nodes and steps, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use super::fields::Scope;
use super::{Checker, ID_CHARS_MAX};
use crate::NodeIndex;
use crate::callee::CalleeKind;
use crate::plan::{Node, Part, Role, WaitSpec, WorkflowKind};
use crate::time::{Timestamp, parse_duration};
use crate::workflow::expression::{Expression, Template};
use crate::workflow::schema::{Schema, member, sentence};
use crate::workflow::{KindSpec, closest, excerpt};

/// What every node may say.
pub(in crate::workflow) const COMMON_KEYS: &[&str] = &[
    "id",
    "type",
    "name",
    "description",
    "needs",
    "if",
    "timeout",
    "retry",
    "on_error",
    "approval",
    "retry_safe",
    "output_schema",
    "compensate",
];
/// Kinds whose deed is a request to one host, and what such nodes may say as well. Which host it is, their runner knows.
pub(in crate::workflow) const CALLERS_OF_HOSTS: &[&str] = &["http"];
pub(in crate::workflow) const CALLERS_KEYS: &[&str] = &["circuit_breaker"];
/// Keys and kinds of the format that arrive with a later version.
const LATER_NODE_KEYS: &[&str] = &["concurrency", "on_done"];
const LATER_KINDS: &[&str] = &["sql", "email", "mcp", "merge", "collect", "reduce", "vote", "http_poll"];

/// A node on its way into the plan.
pub(super) struct Draft {
    pub node: Node,
    pub pointer: String,
    /// What its expressions may read.
    pub scope: Scope,
    /// As written: ids that may not exist.
    pub needs: Vec<super::graph::NeedDraft>,
    /// Conditions of the edges that lead here, as expressions without delimiters.
    pub edge_conditions: Vec<String>,
    /// Not every key was understood: what follows from them is not checked.
    pub is_partial: bool,
}

pub(super) struct KindSchema {
    schema: Schema,
    keys: Vec<String>,
    /// Keys beyond the declared ones are refused.
    is_closed: bool,
}

/// A node as it is written: in a map by id, or in a list with its id inside.
struct Written<'v> {
    id: Option<&'v str>,
    value: &'v Value,
    pointer: String,
    /// Where problems of the id are shown.
    id_pointer: String,
}

impl Checker<'_> {
    pub(super) fn nodes(&mut self, top: &Map<String, Value>, kind: WorkflowKind) -> Vec<Draft> {
        let key = if kind == WorkflowKind::Steps { "steps" } else { "nodes" };
        let pointer = member("", key);
        let written = match top.get(key) {
            Some(Value::Array(list)) => written_list(list, &pointer),
            Some(Value::Object(map)) => written_map(map, &pointer),
            Some(_) => {
                let detail = format!("`{key}` is a list, or a mapping by id");
                self.problem("invalid_field", &pointer, detail);
                return Vec::new();
            }
            None => {
                self.problem("missing_field", "", format!("`{key}` is missing"));
                return Vec::new();
            }
        };
        if written.is_empty() {
            self.problem("missing_field", &pointer, "a workflow has at least one node");
        }
        self.main_count = written.len();
        let mut seen = BTreeMap::new();
        let mut drafts = Vec::new();
        for written in written {
            let index = NodeIndex(u16::try_from(drafts.len()).unwrap_or(u16::MAX));
            let id = self.node_id(&written, &mut seen);
            drafts.push(self.node(index, id, &written, kind));
        }
        if let Some(edges) = top.get("edges").filter(|_| kind == WorkflowKind::Dag) {
            self.edges(edges, &mut drafts, &seen);
        }
        self.connect(&mut drafts, &seen, kind);
        drafts
    }

    fn node_id(&mut self, written: &Written<'_>, seen: &mut BTreeMap<String, usize>) -> String {
        let Some(id) = written.id else {
            if written.value.is_object() {
                let detail = "`id` is missing: text that names the node";
                self.problem("missing_field", &written.id_pointer, detail);
            }
            return String::new();
        };
        if !is_id(id) {
            let detail = format!(
                "`{}` is no id: it starts with a letter and goes on with letters, digits, `_` and `-`, \
                 {ID_CHARS_MAX} characters at most",
                excerpt(id)
            );
            self.key_problem("bad_id", &written.id_pointer, detail);
        } else if seen.contains_key(id) {
            self.key_problem("duplicate_id", &written.id_pointer, format!("the id `{id}` stands here twice"));
        }
        let next = seen.len();
        seen.entry(id.to_owned()).or_insert(next);
        id.to_owned()
    }

    fn node(&mut self, index: NodeIndex, id: String, written: &Written<'_>, kind: WorkflowKind) -> Draft {
        let pointer = &written.pointer;
        let mut draft = Draft::new(index, id, pointer.clone());
        if let Some(map) = self.object(written.value, pointer, "a node") {
            self.read_node(map, &mut draft, Some(kind));
        }
        draft
    }

    /// Without a `kind`, the node stands inside another one.
    pub(super) fn read_node(
        &mut self,
        map: &Map<String, Value>,
        draft: &mut Draft,
        kind: Option<WorkflowKind>,
    ) {
        let pointer = draft.pointer.clone();
        let spec = self.node_kind(map, &pointer);
        self.common_keys(map, draft, kind);
        let Some(spec) = spec else {
            draft.is_partial = true;
            return;
        };
        draft.node.kind = spec.name.to_owned();
        let params = self.params(map, &pointer, spec);
        let callee = CalleeKind::of_node(spec.name).and_then(|kind| self.called(kind, &params, &pointer));
        draft.node.retry_safe = match map.get("retry_safe") {
            Some(value) => self.boolean(value, &member(&pointer, "retry_safe")).unwrap_or(false),
            None => callee.as_ref().map_or_else(|| (spec.retry_safe)(&params), |callee| callee.retry_safe),
        };
        draft.node.callee = callee;
        if let Some(value) = map.get("circuit_breaker").filter(|_| CALLERS_OF_HOSTS.contains(&spec.name)) {
            draft.node.circuit = self.circuit(value, &member(&pointer, "circuit_breaker")).map(Arc::new);
        }
        self.role(map, params, draft);
        self.inherit(map, draft);
    }

    fn node_kind(&mut self, map: &Map<String, Value>, pointer: &str) -> Option<KindSpec> {
        let names = || self.catalog.iter().map(|kind| kind.name);
        let pointer_of_type = member(pointer, "type");
        let Some(value) = map.get("type") else {
            self.problem("missing_field", pointer, "`type` is missing: what kind of node is this?");
            return None;
        };
        let name = value.as_str().unwrap_or_default();
        if let Some(kind) = self.catalog.get(name) {
            return Some(*kind);
        }
        if LATER_KINDS.contains(&name) {
            let detail = format!("nodes of `type: {name}` are not there yet in this version");
            self.problem("unsupported", &pointer_of_type, detail);
            return None;
        }
        let detail = match closest(name, names()) {
            Some(near) => format!("`{}` is no kind of node; did you mean `{near}`?", excerpt(name)),
            None => {
                let names: Vec<&str> = names().collect();
                format!(
                    "`{}` is no kind of node; there are {}",
                    excerpt(name),
                    crate::workflow::list_of(&names, "and")
                )
            }
        };
        self.problem("unknown_type", &pointer_of_type, detail);
        None
    }

    pub(super) fn common_keys(
        &mut self,
        map: &Map<String, Value>,
        draft: &mut Draft,
        kind: Option<WorkflowKind>,
    ) {
        let pointer = draft.pointer.clone();
        let scope = draft.scope;
        if let Some(value) = map.get("description") {
            self.check_description(value, &member(&pointer, "description"));
        }
        match (map.get("needs"), kind) {
            (None, _) | (_, None) => {}
            (Some(needs), Some(WorkflowKind::Dag)) => {
                draft.needs = self.needs(needs, &member(&pointer, "needs"))
            }
            (Some(_), Some(WorkflowKind::Steps | WorkflowKind::Machine)) => {
                let detail = "steps run one after the other; `needs` goes with `type: dag`";
                self.key_problem("invalid_field", &member(&pointer, "needs"), detail);
            }
        }
        if let Some(value) = map.get("if") {
            draft.node.condition = self.condition(value, &member(&pointer, "if"), scope);
        }
        if let Some(value) = map.get("timeout") {
            draft.node.timeout = self.duration(value, &member(&pointer, "timeout"));
        }
        if let Some(value) = map.get("approval") {
            let pointer = member(&pointer, "approval");
            if map.get("type").is_some_and(|kind| kind == "approval") {
                self.key_problem("invalid_field", &pointer, "an approval node is a gate itself");
            } else {
                draft.node.gate = self.gate_before(value, &pointer, scope);
            }
        }
    }

    /// The keys that belong to the kind, checked against its schema.
    pub(super) fn params(&mut self, map: &Map<String, Value>, pointer: &str, spec: KindSpec) -> Value {
        let entry = self.kind_schemas.remove(spec.name).unwrap_or_else(|| KindSchema::of(&spec));
        let mut params = Map::new();
        if let Some(kind) = &entry {
            let of_host = if CALLERS_OF_HOSTS.contains(&spec.name) { CALLERS_KEYS } else { &[] };
            let of_nodes: Vec<&str> = COMMON_KEYS.iter().chain(of_host).copied().collect();
            let known: Vec<&str> = kind.keys.iter().map(String::as_str).chain(of_nodes.clone()).collect();
            for (key, value) in map {
                if kind.keys.contains(key) {
                    params.insert(key.clone(), value.clone());
                } else if of_nodes.contains(&key.as_str()) {
                    self.check_label(key, value, pointer);
                } else if kind.is_closed || LATER_NODE_KEYS.contains(&key.as_str()) {
                    self.unknown_key(key, pointer, &known, LATER_NODE_KEYS);
                } else {
                    params.insert(key.clone(), value.clone());
                }
            }
        }
        let params = Value::Object(params);
        // These are read key by key, which says more than their schema does.
        if let Some(kind) = entry
            .as_ref()
            .filter(|_| !matches!(spec.name, "approval" | "map" | "loop" | "join" | "parallel" | "machine"))
        {
            for (code, inside, detail, is_key) in kind.schema.errors(&params, violations) {
                let pointer = format!("{pointer}{inside}");
                match is_key {
                    true => self.key_problem(code, &pointer, detail),
                    false => self.problem(code, &pointer, detail),
                }
            }
        }
        self.kind_schemas.insert(spec.name, entry);
        params
    }

    fn check_label(&mut self, key: &str, value: &Value, pointer: &str) {
        if key == "name" && value.as_str().is_none_or(|name| name.chars().count() > 200) {
            self.problem("invalid_field", &member(pointer, key), "a name is text of at most 200 characters");
        }
    }

    fn role(&mut self, map: &Map<String, Value>, params: Value, draft: &mut Draft) {
        let pointer = draft.pointer.clone();
        let scope = draft.scope;
        let only_waits = matches!(draft.node.kind.as_str(), "wait" | "signal");
        if only_waits && draft.node.gate.take().is_some() {
            let detail =
                "there is nothing that people could let it do: put a node of `type: approval` before it";
            self.key_problem("invalid_field", &member(&pointer, "approval"), detail);
        }
        draft.node.role = match draft.node.kind.as_str() {
            "wait" => {
                if draft.node.timeout.take().is_some() {
                    let detail = "a wait ends by itself; it has no timeout";
                    self.key_problem("invalid_field", &member(&pointer, "timeout"), detail);
                }
                self.wait(&params, &pointer, scope)
            }
            "signal" => self.signal(&params, &pointer),
            "map" => self.map(&params, draft),
            "workflow" => self.called_workflow(&params, &pointer),
            "loop" => self.loops(&params, draft),
            "parallel" => self.parallel(&params, draft),
            "machine" => self.machine_node(&params, draft),
            "join" => self.join(&params, draft),
            "approval" => {
                let gate = params.as_object().cloned().unwrap_or_default();
                // A gate's time is the node's time.
                let timeout = draft.node.timeout.take();
                Role::Approval(self.gate(&gate, &pointer, scope, timeout))
            }
            _ => Role::Run,
        };
        if let Role::Approval(_) = draft.node.role {
            if map.contains_key("retry") {
                self.key_problem("invalid_field", &member(&pointer, "retry"), "a gate is not tried again");
            }
            // Show and auto_approve_if are the gate's; the node keeps what was written.
            draft.node.params = literal(params);
            return;
        }
        if draft.node.role.is_work() && !draft.is_partial && !draft.node.has_body() {
            // What a child receives is in its log.
            let has_secrets = matches!(draft.node.role, Role::Run);
            let scope = Scope { has_secrets, ..scope };
            if let Some(params) = self.template(params, &pointer, scope) {
                draft.node.params = params;
            }
        } else {
            draft.node.params = literal(params);
        }
    }

    fn wait(&mut self, params: &Value, pointer: &str, scope: Scope) -> Role {
        let literal_text =
            |value: &Value| value.as_str().filter(|text| !text.contains("${{")).map(str::to_owned);
        if let Some(value) = params.get("for") {
            let pointer = member(pointer, "for");
            if let Some(Err(detail)) = literal_text(value).map(|text| parse_duration(&text)) {
                self.problem("bad_duration", &pointer, detail);
            }
            return Role::Wait(WaitSpec::For(self.template_or_null(value, &pointer, scope)));
        }
        let until = params.get("until").cloned().unwrap_or_default();
        let pointer = member(pointer, "until");
        if let Some(text) = literal_text(&until)
            && text.parse::<Timestamp>().is_err()
        {
            let detail = format!("`{}` is not a time such as 2027-01-31T09:00:00Z", excerpt(&text));
            self.problem("bad_timestamp", &pointer, detail);
        }
        Role::Wait(WaitSpec::Until(self.template_or_null(&until, &pointer, scope)))
    }

    fn template_or_null(&mut self, value: &Value, pointer: &str, scope: Scope) -> Template {
        self.template(value.clone(), pointer, scope).unwrap_or_else(|| literal(Value::Null))
    }

    fn signal(&mut self, params: &Value, pointer: &str) -> Role {
        let name = params.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name.contains("${{") {
            let detail = "a signal's name is fixed; it cannot hold an expression";
            self.problem("invalid_field", &member(pointer, "name"), detail);
        }
        let schema = params.get("schema").and_then(|schema| self.schema(schema, &member(pointer, "schema")));
        Role::Signal { name, schema }
    }

    /// Retries, error rules and timeouts, with the definition's defaults behind them.
    pub(super) fn inherit(&mut self, map: &Map<String, Value>, draft: &mut Draft) {
        let pointer = draft.pointer.clone();
        let is_work = draft.node.role.is_work();
        // Defaults are about work: a signal that is not there yet has not failed.
        // What holds for all nodes holds inside a body, and not once more for the node that has it.
        let base = match is_work && !draft.node.has_body() {
            true => self.defaults.retry.clone(),
            false => Default::default(),
        };
        // What a run may take, its own definition says: it may wait for people.
        if matches!(draft.node.role, Role::Run) && draft.node.timeout.is_none() {
            draft.node.timeout = self.defaults.timeout;
        }
        draft.node.retry = match map.get("retry") {
            Some(value) if !matches!(draft.node.role, Role::Approval(_)) => {
                self.retry(value, &member(&pointer, "retry"), base)
            }
            _ => base,
        };
        if let Some(value) = map.get("output_schema") {
            let pointer = member(&pointer, "output_schema");
            match is_work {
                true => draft.node.output_schema = self.schema(value, &pointer),
                false => self.key_problem(
                    "invalid_field",
                    &pointer,
                    "only what is done has an output with a schema",
                ),
            }
        }
        // What undoes a node is followed by nothing but a person.
        if !matches!(draft.node.part, Part::Compensation { .. }) {
            draft.node.on_error = self.node_error_rules(map.get("on_error"), draft);
            let value = map.get("compensate");
            draft.node.compensation = value.and_then(|value| self.compensate(value, draft));
        }
    }
}

impl Draft {
    pub(super) fn new(index: NodeIndex, id: String, pointer: String) -> Self {
        let node = Node {
            index,
            id,
            kind: String::new(),
            role: Role::Run,
            part: Part::Main,
            needs: Vec::new(),
            dependents: Vec::new(),
            condition: None,
            params: literal(Value::Null),
            timeout: None,
            retry: crate::retry::RetryPolicy::default(),
            on_error: Vec::new(),
            gate: None,
            retry_safe: false,
            output_is_read: false,
            output_schema: None,
            callee: None,
            circuit: None,
            compensation: None,
            fallback: None,
            body: None,
        };
        Self {
            node,
            pointer,
            scope: Scope::node(index.at()),
            needs: Vec::new(),
            edge_conditions: Vec::new(),
            is_partial: false,
        }
    }

    /// The node's own condition and those of the edges that lead to it.
    pub(super) fn join_conditions(&mut self) {
        if self.edge_conditions.is_empty() {
            return;
        }
        let own = self.node.condition.iter().map(|condition| condition.text().to_owned());
        let all: Vec<String> =
            own.chain(self.edge_conditions.drain(..)).map(|text| format!("({text})")).collect();
        // Each compiled by itself; together they may still be too long, which leaves the node's own.
        if let Ok(condition) = Expression::compile(&all.join(" and ")) {
            self.node.condition = Some(condition);
        } else {
            self.is_partial = true;
        }
    }
}

impl KindSchema {
    fn of(spec: &KindSpec) -> Option<Self> {
        let schema = Schema::compile((spec.params)()).ok()?;
        let keys = schema.properties().map(|keys| keys.keys().cloned().collect()).unwrap_or_default();
        let is_closed = schema.is_closed();
        Some(Self { schema, keys, is_closed })
    }
}

pub(super) fn is_id(id: &str) -> bool {
    id.len() <= ID_CHARS_MAX
        && id.starts_with(|first: char| first.is_ascii_alphabetic())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A value as it is, expressions and all.
fn literal(value: Value) -> Template {
    Template::literal(value)
}

fn written_list<'v>(list: &'v [Value], pointer: &str) -> Vec<Written<'v>> {
    let written = |(at, value): (usize, &'v Value)| {
        let pointer = format!("{pointer}/{at}");
        let id = value.get("id").and_then(Value::as_str);
        let id_pointer = if value.get("id").is_some() { format!("{pointer}/id") } else { pointer.clone() };
        Written { id, value, pointer, id_pointer }
    };
    list.iter().enumerate().map(written).collect()
}

fn written_map<'v>(map: &'v Map<String, Value>, pointer: &str) -> Vec<Written<'v>> {
    let written = |(id, value): (&'v String, &'v Value)| {
        let pointer = member(pointer, id);
        Written { id: Some(id), value, id_pointer: pointer.clone(), pointer }
    };
    map.iter().map(written).collect()
}

/// What one violation of a kind's schema means: code, pointer, sentence, and whether it is about a key.
/// A string that holds an expression stands for any type.
pub(super) fn violations(error: &ValidationError<'_>) -> Vec<(&'static str, String, String, bool)> {
    if may_become_valid(error) {
        return Vec::new();
    }
    let pointer = error.instance_path().to_string();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|key| {
                let detail = format!("`{}` is not known here", excerpt(key));
                ("unknown_field", member(&pointer, key), detail, true)
            })
            .collect(),
        ValidationErrorKind::Required { .. } => vec![("missing_field", pointer, sentence(error), false)],
        _ => vec![("invalid_field", pointer, sentence(error), false)],
    }
}

fn may_become_valid(error: &ValidationError<'_>) -> bool {
    if error.instance().as_str().is_some_and(|text| text.contains("${{")) {
        return true;
    }
    match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            context.iter().any(|branch| !branch.is_empty() && branch.iter().all(may_become_valid))
        }
        _ => false,
    }
}
