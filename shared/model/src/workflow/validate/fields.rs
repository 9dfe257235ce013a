//! Reads single fields, and notes what is wrong with them.

use std::time::Duration;

use serde_json::{Map, Value};

use super::reads::Read;
use super::{Checker, DESCRIPTION_CHARS_MAX, GATHERED_MAX, Place};
use crate::time::parse_duration;
use crate::workflow::expression::{Expression, Names, Reference, Template};
use crate::workflow::schema::{Schema, member};
use crate::workflow::{Problem, closest, excerpt};

/// Where an expression stands, and so what it may read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// The node whose expression it is; none for the outputs of the run.
    pub node: Option<usize>,
    /// Runners get secrets; nothing that is stored does.
    pub has_secrets: bool,
    /// What a failed step leaves behind may look at the step's own error.
    pub has_own_error: bool,
    /// What undoes a node reads what the node has done.
    pub has_own_result: bool,
    /// Tools and agents know what they are called with, and nothing of the run that calls.
    pub is_callee: bool,
    /// Which names of a machine are there; none outside of one.
    pub machine: Option<&'static [&'static str]>,
    /// The root that an item, or a round of a loop, is read at, and what can be read there.
    pub fan: Option<(&'static str, &'static [&'static str])>,
    /// A group is told before there is a run.
    pub is_group: bool,
}

impl Scope {
    pub(super) fn outputs() -> Self {
        Self {
            node: None,
            has_secrets: false,
            has_own_error: false,
            has_own_result: false,
            is_callee: false,
            machine: None,
            fan: None,
            is_group: false,
        }
    }

    pub(super) fn callee() -> Self {
        Self { is_callee: true, has_secrets: true, ..Self::outputs() }
    }

    pub(super) fn group() -> Self {
        Self { is_group: true, ..Self::outputs() }
    }

    pub(super) fn node(index: usize) -> Self {
        Self { node: Some(index), ..Self::outputs() }
    }

    pub(super) fn machine(names: &'static [&'static str]) -> Self {
        Self { machine: Some(names), ..Self::outputs() }
    }
}

impl Checker<'_> {
    /// Notes a problem of a value.
    pub(super) fn problem(&mut self, code: &'static str, pointer: &str, detail: impl Into<String>) {
        self.note(code, pointer, detail.into(), Place::Value);
    }

    /// Notes a problem of a key, where the problem is that it stands there.
    pub(super) fn key_problem(&mut self, code: &'static str, pointer: &str, detail: impl Into<String>) {
        self.note(code, pointer, detail.into(), Place::Key);
    }

    fn note(&mut self, code: &'static str, pointer: &str, detail: String, place: Place) {
        let problem = Problem::new(code, pointer, detail);
        // What a definition says once may be wrong for each of its nodes.
        if self.problems.len() < GATHERED_MAX && self.problems.iter().all(|(other, _)| *other != problem) {
            self.problems.push((problem, place));
        }
    }

    pub(super) fn object<'v>(
        &mut self,
        value: &'v Value,
        pointer: &str,
        what: &str,
    ) -> Option<&'v Map<String, Value>> {
        if value.as_object().is_none() {
            self.problem("invalid_field", pointer, format!("{what} is a mapping"));
        }
        value.as_object()
    }

    pub(super) fn list<'v>(&mut self, value: &'v Value, pointer: &str, what: &str) -> Option<&'v [Value]> {
        if value.as_array().is_none() {
            self.problem("invalid_field", pointer, format!("{what} stand in a list"));
        }
        value.as_array().map(Vec::as_slice)
    }

    pub(super) fn boolean(&mut self, value: &Value, pointer: &str) -> Option<bool> {
        if value.as_bool().is_none() {
            self.problem("invalid_field", pointer, "this is true or false");
        }
        value.as_bool()
    }

    /// One of a few words, and what it stands for.
    pub(super) fn word<T: Copy>(&mut self, value: &Value, pointer: &str, words: &[(&str, T)]) -> Option<T> {
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let detail = format!("this is {}", crate::workflow::list_of(&names, "or"));
            self.problem("invalid_field", pointer, detail);
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, value: &Value, pointer: &str, min: u64, max: u64) -> Option<u64> {
        let number = value.as_u64().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.problem("invalid_field", pointer, format!("this is a whole number from {min} to {max}"));
        }
        number
    }

    pub(super) fn duration(&mut self, value: &Value, pointer: &str) -> Option<Duration> {
        let Some(text) = value.as_str() else {
            self.problem("bad_duration", pointer, "a duration is written as 30s, 5m, 48h, 7d or PT30S");
            return None;
        };
        match parse_duration(text) {
            Ok(span) if span.is_zero() => {
                self.problem("bad_duration", pointer, "this duration is zero");
                None
            }
            Ok(span) => Some(span),
            Err(_) if text.len() > 64 => {
                let detail = format!("`{}` is not a duration", excerpt(text));
                self.problem("bad_duration", pointer, detail);
                None
            }
            Err(detail) => {
                self.problem("bad_duration", pointer, detail);
                None
            }
        }
    }

    pub(super) fn check_description(&mut self, value: &Value, pointer: &str) {
        let is_text = value.as_str().is_some_and(|text| text.chars().count() <= DESCRIPTION_CHARS_MAX);
        if !is_text {
            let detail = format!("this is text of at most {DESCRIPTION_CHARS_MAX} characters");
            self.problem("invalid_field", pointer, detail);
        }
    }

    pub(super) fn schema(&mut self, value: &Value, pointer: &str) -> Option<Schema> {
        match Schema::compile(value.clone()) {
            Ok(schema) => Some(schema),
            Err(detail) => {
                self.problem("bad_schema", pointer, format!("this is no usable JSON Schema: {detail}"));
                None
            }
        }
    }

    /// A condition: an expression, with or without its delimiters, or simply true or false.
    pub(super) fn condition(&mut self, value: &Value, pointer: &str, scope: Scope) -> Option<Expression> {
        let text = match value {
            Value::Bool(value) => value.to_string(),
            Value::String(text) => text.clone(),
            _ => {
                self.problem("invalid_field", pointer, "a condition is an expression, or true or false");
                return None;
            }
        };
        match Expression::compile_with(&text, self.names(scope)) {
            Ok(expression) => {
                self.note_reads(pointer, scope, expression.references().iter());
                Some(expression)
            }
            Err(detail) => {
                self.problem("bad_expression", pointer, detail);
                None
            }
        }
    }

    pub(super) fn template(&mut self, value: Value, pointer: &str, scope: Scope) -> Option<Template> {
        match Template::compile_with(value, self.names(scope)) {
            Ok(template) => {
                for (inside, reference) in template.references() {
                    self.note_reads(&format!("{pointer}{inside}"), scope, [reference]);
                }
                Some(template)
            }
            Err(problems) => {
                for problem in problems {
                    let pointer = format!("{pointer}{}", problem.pointer);
                    self.problem("bad_expression", &pointer, problem.detail);
                }
                None
            }
        }
    }

    /// What names mean in an expression that stands there.
    pub(super) fn names(&self, scope: Scope) -> Names<'_> {
        Names {
            item: self.item_name.as_deref(),
            own: self.own.as_ref().filter(|_| !scope.is_callee),
            fan: scope.fan.map(|(root, _)| root),
            has_context: scope.machine.is_some_and(|names| names.contains(&"context")),
        }
    }

    pub(super) fn note_reads<'r>(
        &mut self,
        pointer: &str,
        scope: Scope,
        references: impl IntoIterator<Item = &'r Reference>,
    ) {
        self.reads.extend(
            references.into_iter().map(|reference| Read::new(pointer.to_owned(), scope, reference.clone())),
        );
    }

    pub(super) fn check_unknown_keys(
        &mut self,
        map: &Map<String, Value>,
        pointer: &str,
        known: &[&str],
        later: &[&str],
    ) {
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            self.unknown_key(key, pointer, known, later);
        }
    }

    pub(super) fn unknown_key(&mut self, key: &str, pointer: &str, known: &[&str], later: &[&str]) {
        let pointer = member(pointer, key);
        let shown = excerpt(key);
        if later.contains(&key) {
            self.key_problem("unsupported", &pointer, format!("`{key}` is not there yet in this version"));
            return;
        }
        let detail = match closest(key, known.iter().copied()) {
            Some(near) => format!("`{shown}` is not known here; did you mean `{near}`?"),
            None => format!("`{shown}` is not known here"),
        };
        self.key_problem("unknown_field", &pointer, detail);
    }
}
