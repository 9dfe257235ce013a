//! Reads the tools and agents that a definition brings along, and the calls of its nodes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::fields::Scope;
use super::node::violations;
use super::{COMMON_KEYS, Checker};
use crate::callee::{Callee, CalleeKind, Risk};
use crate::circuit::{CircuitSpec, TROUBLE};
use crate::workflow::schema::{Schema, member};
use crate::workflow::{closest, excerpt, list_of};

/// A name goes into the names of errors, which go into metrics and lists.
pub const CALLEE_CHARS_MAX: usize = 100;
/// As many as people keep apart; each has up to two schemas to compile.
pub const CALLEES_MAX: usize = 200;

pub(in crate::workflow) const CALLEE_KEYS: &[&str] =
    &["description", "parameters", "result", "risk", "idempotent", "circuit_breaker", "rate_limit", "do"];
/// What a breaker says nothing about.
const FAILURES_DEFAULT: u32 = 5;
const FAILURES_MAX: u64 = 10_000;
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);
const COOL_DOWN_DEFAULT: Duration = Duration::from_secs(30);
const RISKS: &[(&str, Risk)] = &[("low", Risk::Low), ("medium", Risk::Medium), ("high", Risk::High)];

impl Checker<'_> {
    /// `tools` and `agents` of a definition.
    pub(super) fn callees(&mut self, top: &Map<String, Value>) {
        for kind in CalleeKind::ALL {
            let Some(value) = top.get(kind.plural()) else { continue };
            let pointer = member("", kind.plural());
            let Some(map) = self.object(value, &pointer, &format!("`{}`", kind.plural())) else { continue };
            if map.len() > CALLEES_MAX {
                self.problem("invalid_field", &pointer, format!("at most {CALLEES_MAX} {}", kind.plural()));
                return;
            }
            for (name, value) in map {
                let pointer = member(&pointer, name);
                self.callee_name(kind, name, &pointer);
                let what = format!("{} {}", article(kind), kind.as_str());
                let callee = self.object(value, &pointer, &what);
                let callee = callee.and_then(|map| {
                    self.check_unknown_keys(map, &pointer, CALLEE_KEYS, &[]);
                    self.callee(kind, name, map, &pointer)
                });
                // What is broken has been told: those who call it are not told again.
                self.callees.insert((kind, name.clone()), callee.map(Arc::new));
            }
        }
    }

    /// One that stands alone, as it is registered: its name is inside.
    pub(super) fn registered(&mut self, kind: CalleeKind, spec: &Value) -> Option<Callee> {
        let map = self.object(spec, "", &format!("{} {}", article(kind), kind.as_str()))?;
        self.check_values(spec)?;
        let keys: Vec<&str> = CALLEE_KEYS.iter().copied().chain(["name"]).collect();
        self.check_unknown_keys(map, "", &keys, &[]);
        let name = match map.get("name") {
            Some(Value::String(name)) => name.as_str(),
            Some(_) => {
                self.problem("bad_name", "/name", "a name is text");
                ""
            }
            None => {
                self.problem("missing_field", "", "`name` is missing");
                ""
            }
        };
        if map.get("name").is_some_and(Value::is_string) {
            self.callee_name(kind, name, "/name");
        }
        let callee = self.callee(kind, name, map, "");
        self.check_reads(&[], None, None);
        callee
    }

    fn callee_name(&mut self, kind: CalleeKind, name: &str, pointer: &str) {
        if is_callee_name(name) {
            return;
        }
        let detail = format!(
            "`{}` is no name of {} {}: small letters, digits, `_` and `-`, in parts with dots between them, \
             beginning with a letter, {CALLEE_CHARS_MAX} characters at most",
            excerpt(name),
            article(kind),
            kind.as_str()
        );
        self.key_problem("bad_name", pointer, detail);
    }

    fn callee(
        &mut self,
        kind: CalleeKind,
        name: &str,
        map: &Map<String, Value>,
        pointer: &str,
    ) -> Option<Callee> {
        if let Some(value) = map.get("description") {
            self.check_description(value, &member(pointer, "description"));
        }
        let parameters = map.get("parameters").map(|value| {
            let pointer = member(pointer, "parameters");
            if value.get("type").is_some_and(|kind| kind != "object") {
                let detail = "parameters are an object: write `type: object`";
                self.problem("bad_schema", &member(&pointer, "type"), detail);
            }
            self.schema(value, &pointer)
        });
        let result = map.get("result").map(|value| self.schema(value, &member(pointer, "result")));
        let risk = map.get("risk").and_then(|value| self.word(value, &member(pointer, "risk"), RISKS));
        let idempotent = map.get("idempotent");
        let idempotent = idempotent.and_then(|value| self.boolean(value, &member(pointer, "idempotent")));
        let circuit = map.get("circuit_breaker");
        let circuit = circuit.map(|value| self.circuit(value, &member(pointer, "circuit_breaker")));
        let rate_limit = map.get("rate_limit");
        let rate_limit =
            rate_limit.map(|value| self.rate_limit(value, &member(pointer, "rate_limit"), "calls"));
        let Some(deed) = map.get("do") else {
            self.problem("missing_field", pointer, "`do` is missing: what does a call do?");
            return None;
        };
        let (deed, is_repeatable) = self.deed(kind, deed, &member(pointer, "do"))?;
        Some(Callee {
            kind,
            name: name.to_owned(),
            parameters: parameters.map_or(Some(None), |schema| schema.map(Some))?,
            result: result.map_or(Some(None), |schema| schema.map(Some))?,
            risk,
            circuit: circuit.map_or(Some(None), |circuit| circuit.map(|circuit| Some(Arc::new(circuit))))?,
            rate_limit: rate_limit.map_or(Some(None), |limit| limit.map(Some))?,
            retry_safe: idempotent.unwrap_or(is_repeatable),
            deed,
        })
    }

    pub(super) fn circuit(&mut self, value: &Value, pointer: &str) -> Option<CircuitSpec> {
        let map = self.object(value, pointer, "a circuit breaker")?;
        self.check_unknown_keys(map, pointer, &["failures", "window", "cool_down", "errors"], &[]);
        let failures = map.get("failures").map(|value| {
            let number = self.number(value, &member(pointer, "failures"), 1, FAILURES_MAX);
            number.and_then(|number| u32::try_from(number).ok())
        });
        let mut span = |key: &str, otherwise| match map.get(key) {
            Some(value) => self.duration(value, &member(pointer, key)),
            None => Some(otherwise),
        };
        let (window, cool_down) = (span("window", WINDOW_DEFAULT), span("cool_down", COOL_DOWN_DEFAULT));
        let errors = match map.get("errors") {
            Some(value) => self.patterns(value, &member(pointer, "errors")),
            None => TROUBLE.iter().map(|pattern| (*pattern).to_owned()).collect(),
        };
        Some(CircuitSpec {
            failures: failures.unwrap_or(Some(FAILURES_DEFAULT))?,
            window: window?,
            cool_down: cool_down?,
            errors,
        })
    }

    /// `do:` and whether such a deed may be repeated.
    fn deed(
        &mut self,
        kind: CalleeKind,
        value: &Value,
        pointer: &str,
    ) -> Option<(crate::workflow::expression::Template, bool)> {
        let map = self.object(value, pointer, "`do`")?;
        let catalog = self.catalog;
        let types = catalog.deeds(kind);
        let spec = match map.get("type").map(|name| name.as_str().unwrap_or_default()) {
            Some(name) => types.iter().find(|spec| spec.name == name).copied(),
            None => {
                self.problem("missing_field", pointer, "`type` is missing: what does a call do?");
                return None;
            }
        };
        let Some(spec) = spec else {
            let names: Vec<&str> = types.iter().map(|spec| spec.name).collect();
            let detail =
                format!("the `do` of {} {} has type {}", article(kind), kind.as_str(), list_of(&names, "or"));
            self.problem("unknown_type", &member(pointer, "type"), detail);
            return None;
        };
        for key in map.keys().filter(|key| *key != "type") {
            let detail = match key.as_str() {
                "circuit_breaker" => format!(
                    "`{key}` stands beside `do`: it is for all that {} {} does",
                    article(kind),
                    kind.as_str()
                ),
                key if COMMON_KEYS.contains(&key) => format!("`{key}` belongs to the node that calls"),
                _ => continue,
            };
            self.key_problem("invalid_field", &member(pointer, key), detail);
        }
        let mut params = self.params(map, pointer, spec);
        let is_repeatable = (spec.retry_safe)(&params);
        if let Some(params) = params.as_object_mut() {
            pass_parameters(spec.name, params);
            params.insert("type".into(), spec.name.into());
        }
        Some((self.template(params, pointer, Scope::callee())?, is_repeatable))
    }

    /// What a node with these keys calls. None when that was not understood, or is for others to know.
    pub(super) fn called(&mut self, kind: CalleeKind, params: &Value, pointer: &str) -> Option<Arc<Callee>> {
        let name = params.get(kind.as_str())?.as_str()?;
        let name_pointer = member(pointer, kind.as_str());
        if name.contains("${{") {
            let detail = format!("which {} is called is fixed; it cannot be an expression", kind.as_str());
            self.problem("invalid_field", &name_pointer, detail);
            return None;
        }
        let Some(found) = self.callees.get(&(kind, name.to_owned())).cloned() else {
            self.unknown_callee(kind, name, &name_pointer);
            return None;
        };
        let callee = found?;
        if let Some(schema) = &callee.parameters {
            self.check_call(schema, params, pointer);
        }
        Some(callee)
    }

    fn unknown_callee(&mut self, kind: CalleeKind, name: &str, pointer: &str) {
        if self.catalog.trusts_callees() {
            return;
        }
        let code = match kind {
            CalleeKind::Tool => "unknown_tool",
            CalleeKind::Agent => "unknown_agent",
        };
        let names = self.callees.keys().filter(|(other, _)| *other == kind);
        let (what, shown) = (kind.as_str(), excerpt(name));
        let detail = match closest(name, names.map(|(_, name)| name.as_str())) {
            Some(near) => format!("there is no {what} `{shown}`; did you mean `{near}`?"),
            None => format!(
                "there is no {what} `{shown}`: it stands neither under `{}` here nor is it registered",
                kind.plural()
            ),
        };
        self.problem(code, pointer, detail);
    }

    /// What a definition hands over, as far as it is known before a run.
    fn check_call(&mut self, schema: &Schema, params: &Value, pointer: &str) {
        let mut with = params.get("with").cloned().unwrap_or_else(|| json!({}));
        schema.fill_defaults(&mut with);
        let pointer = if params.get("with").is_some() { member(pointer, "with") } else { pointer.to_owned() };
        for (code, inside, detail, is_key) in schema.errors(&with, violations) {
            let pointer = format!("{pointer}{inside}");
            match is_key {
                true => self.key_problem(code, &pointer, detail),
                false => self.problem(code, &pointer, detail),
            }
        }
    }
}

/// Parts of small letters, digits, `_` and `-`, with dots between them.
pub fn is_callee_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
    };
    name.len() <= CALLEE_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split('.').all(is_part)
}

/// A deed that says nothing of its standard input or its body gets the parameters there.
fn pass_parameters(kind: &str, params: &mut Map<String, Value>) {
    const WHOLE: &str = "${{ parameters }}";
    match (kind, params.get_mut("with")) {
        ("script", None) => drop(params.insert("with".into(), WHOLE.into())),
        ("http", Some(Value::Object(with))) => {
            let method = with.get("method").and_then(Value::as_str).unwrap_or_default();
            let has_body = with.contains_key("json") || with.contains_key("body");
            if matches!(method, "POST" | "PUT" | "PATCH") && !has_body {
                with.insert("json".into(), WHOLE.into());
            }
        }
        _ => {}
    }
}

fn article(kind: CalleeKind) -> &'static str {
    match kind {
        CalleeKind::Tool => "a",
        CalleeKind::Agent => "an",
    }
}
