//! JSON Schema at the door: inputs, forms, signal payloads.

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde::Serialize;
use serde_json::{Map, Value};

use super::escape_pointer;

/// A compiled JSON Schema (2020-12). References to other documents are not followed.
///
/// Schemas come from definitions, which strangers may write. So they are kept finite: references must
/// not be recursive, the schema they unfold to is bounded, and patterns run in linear time.
pub struct Schema {
    source: Value,
    validator: Box<Validator>,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON pointer into the value that was checked.
    pub pointer: String,
    pub detail: String,
}

/// A report stops here: nobody reads further.
pub const VIOLATIONS_MAX: usize = 100;
/// Larger values get only their first violation reported: the validator gathers all before it returns.
const FULL_REPORT_VALUES_MAX: usize = 20_000;
/// How many subschemas a schema may unfold to, references written out. Checking a value takes at most
/// this many looks at each of its parts.
const UNFOLDED_MAX: usize = 5_000;
/// Compiling a pattern costs more than anything else in a schema.
const PATTERNS_MAX: usize = 100;
const PATTERN_CHARS_MAX: usize = 500;
const PATTERN_PROGRAM_BYTES_MAX: usize = 256 * 1024;
/// Schemas that did not come through the document reader are bounded here.
const SCHEMA_DEPTH_MAX: usize = super::parse::DEPTH_MAX;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

impl Schema {
    /// # Errors
    /// A sentence with what is wrong in the schema.
    pub fn compile(source: Value) -> Result<Self, String> {
        Bounds::check(&source)?;
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(PATTERN_PROGRAM_BYTES_MAX)
                    .dfa_size_limit(PATTERN_PROGRAM_BYTES_MAX),
            )
            .offline()
            .build(&source)
            .map_err(|error| match error.instance_path().as_str() {
                "" => super::excerpt(&error.to_string()).into_owned(),
                pointer => format!("{} at `{pointer}`", super::excerpt(&error.to_string())),
            })?;
        Ok(Self { source, validator: Box::new(validator) })
    }

    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Every violation, at most [`VIOLATIONS_MAX`].
    pub fn check(&self, value: &Value) -> Vec<Violation> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        self.errors(value, |error| {
            let detail = sentence(error);
            vec![Violation { pointer: error.instance_path().to_string(), detail }]
        })
    }

    /// What `report` makes of each violation, in the order of the value.
    pub(crate) fn errors<T>(&self, value: &Value, report: impl Fn(&ValidationError<'_>) -> Vec<T>) -> Vec<T> {
        if count(value, FULL_REPORT_VALUES_MAX) >= FULL_REPORT_VALUES_MAX {
            return self.validator.validate(value).err().map(|error| report(&error)).unwrap_or_default();
        }
        self.validator.iter_errors(value).take(VIOLATIONS_MAX).flat_map(|error| report(&error)).collect()
    }

    /// Fills in the `default`s of the schema's top-level properties that the object lacks.
    pub fn fill_defaults(&self, value: &mut Value) {
        let (Some(object), Some(properties)) = (value.as_object_mut(), self.properties()) else { return };
        for (name, property) in properties {
            if let Some(default) = property.get("default")
                && !object.contains_key(name)
            {
                object.insert(name.clone(), default.clone());
            }
        }
    }

    /// The top-level properties whose `default` is not what they take, each with its violations. What properties mean
    /// for each other is left aside: a run may bring others.
    pub(crate) fn broken_defaults(&self) -> Vec<(String, Violation)> {
        let Some(properties) = self.properties() else { return Vec::new() };
        let defaults: Map<String, Value> = (properties.iter())
            .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
            .collect();
        if defaults.is_empty() {
            return Vec::new();
        }
        let parts = ["$schema", "properties", "$defs", "definitions"];
        let apart = parts.iter().filter_map(|key| Some(((*key).to_owned(), self.source.get(*key)?.clone())));
        // A reference to something else: the run will tell.
        let Ok(apart) = Self::compile(Value::Object(apart.collect())) else { return Vec::new() };
        let names: Vec<String> = defaults.keys().cloned().collect();
        let violations = apart.check(&Value::Object(defaults));
        let of = |violation: Violation| {
            let (name, rest) = names.iter().find_map(|name| {
                let rest = violation.pointer.strip_prefix(&member("", name))?;
                (rest.is_empty() || rest.starts_with('/')).then_some((name, rest))
            })?;
            Some((name.clone(), Violation { pointer: rest.to_owned(), detail: violation.detail.clone() }))
        };
        violations.into_iter().filter_map(of).collect()
    }

    pub(crate) fn properties(&self) -> Option<&Map<String, Value>> {
        self.source.get("properties").and_then(Value::as_object)
    }

    /// Whether values have no other properties than the declared ones.
    pub(crate) fn is_closed(&self) -> bool {
        self.source.get("additionalProperties") == Some(&Value::Bool(false))
            && self.source.get("patternProperties").is_none()
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.source)
    }
}

/// A violation as a sentence that does not repeat the value: it may be long, or secret.
pub(crate) fn sentence(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            format!("`{}` is missing", property.as_str().unwrap_or_default())
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let names: Vec<&str> = unexpected.iter().map(String::as_str).collect();
            format!("{} is not known here", super::list_of(&names, "and"))
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let missing: Vec<&str> = context
                .iter()
                .filter_map(|branch| match branch.as_slice() {
                    [only] => match only.kind() {
                        ValidationErrorKind::Required { property } => property.as_str(),
                        _ => None,
                    },
                    _ => None,
                })
                .collect();
            if !missing.is_empty() && missing.len() == context.len() {
                return format!("one of {} is missing", super::list_of(&missing, "and"));
            }
            "this value has none of the allowed forms".into()
        }
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            "this value has more than one of the allowed forms; it must have exactly one".into()
        }
        _ => error.masked_with("this value").to_string(),
    }
}

/// How many values a value holds, counted up to `enough`.
fn count(value: &Value, enough: usize) -> usize {
    let (mut counted, mut open) = (0, vec![value]);
    while let Some(next) = open.pop() {
        counted += 1;
        if counted >= enough {
            break;
        }
        match next {
            Value::Array(list) => open.extend(list),
            Value::Object(map) => open.extend(map.values()),
            _ => {}
        }
    }
    counted
}

/// Looks at a schema before it is compiled.
struct Bounds<'a> {
    root: &'a Value,
    patterns: usize,
    /// How much each reference unfolds to; none while it is being looked at.
    unfolded: BTreeMap<&'a str, Option<usize>>,
}

impl<'a> Bounds<'a> {
    fn check(root: &'a Value) -> Result<(), String> {
        if !root.is_object() && !root.is_boolean() {
            return Err("a schema is an object, or true or false".into());
        }
        match root.get("$schema") {
            None => {}
            Some(Value::String(dialect)) if dialect.trim_end_matches('#') == DIALECT => {}
            Some(_) => return Err(format!("`$schema` can only be \"{DIALECT}\"")),
        }
        let mut bounds = Self { root, patterns: 0, unfolded: BTreeMap::new() };
        bounds.size(root, 0).map(|_| ())
    }

    fn size(&mut self, schema: &'a Value, depth: usize) -> Result<usize, String> {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(format!("the schema nests deeper than {SCHEMA_DEPTH_MAX} levels"));
        }
        let mut size = 1;
        match schema {
            Value::Array(list) => {
                for inner in list {
                    size += self.size(inner, depth + 1)?;
                }
            }
            Value::Object(map) => {
                for (key, inner) in map {
                    size += self.keyword(key, inner, depth)?;
                }
            }
            _ => {}
        }
        if size > UNFOLDED_MAX {
            return Err(format!("the schema unfolds to more than {UNFOLDED_MAX} parts"));
        }
        Ok(size)
    }

    fn keyword(&mut self, key: &str, inner: &'a Value, depth: usize) -> Result<usize, String> {
        match (key, inner) {
            // Plain data, whatever it looks like.
            ("const" | "enum" | "default" | "examples", _) => Ok(1),
            ("$ref", Value::String(target)) => self.reference(target, depth),
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                Err(format!("`{key}` is not supported; use `$ref`"))
            }
            ("pattern", Value::String(pattern)) => {
                self.pattern(pattern)?;
                Ok(1)
            }
            ("patternProperties", Value::Object(map)) => {
                map.keys().try_for_each(|pattern| self.pattern(pattern))?;
                self.size(inner, depth + 1)
            }
            _ => self.size(inner, depth + 1),
        }
    }

    fn reference(&mut self, target: &'a str, depth: usize) -> Result<usize, String> {
        let shown = super::excerpt(target);
        if target != "#" && !target.starts_with("#/") {
            return Err(format!(
                "`$ref` can only point into this schema, as in #/$defs/name, not to `{shown}`"
            ));
        }
        match self.unfolded.get(target) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                return Err(format!("the reference `{shown}` is recursive, which is not supported"));
            }
            None if target == "#" => {
                return Err("the reference `#` is recursive, which is not supported".into());
            }
            None => {}
        }
        let Some(referenced) = self.root.pointer(&target[1..]) else {
            return Err(format!("`$ref` points to `{shown}`, which does not exist"));
        };
        self.unfolded.insert(target, None);
        let size = self.size(referenced, depth + 1)?;
        self.unfolded.insert(target, Some(size));
        Ok(size)
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(format!("the schema has more than {PATTERNS_MAX} patterns"));
        }
        if pattern.len() > PATTERN_CHARS_MAX {
            return Err(format!("a pattern has at most {PATTERN_CHARS_MAX} characters"));
        }
        Ok(())
    }
}

/// The pointer of a member.
pub(crate) fn member(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", escape_pointer(key))
}
