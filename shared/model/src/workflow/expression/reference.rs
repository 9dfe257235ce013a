//! What an expression reads: a root, and a path from there.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::lexer::{Kind, Token};

/// One place that an expression reads, known before any run.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub source: Source,
    pub(super) path: Arc<[Step]>,
}

/// Where a reference starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Inputs,
    Output {
        node: String,
    },
    Status {
        node: String,
    },
    Error {
        node: String,
    },
    Run,
    Node,
    Secrets,
    /// In a body: what stands outside of it, by its whole path from the root on.
    Outside,
    /// One of a map's items.
    Item,
    /// One of a loop's rounds.
    Loop,
    /// What a tool or an agent is called with.
    Parameters,
    /// What a reduction has come to so far.
    Accumulator,
    /// What a machine remembers.
    Context,
    /// What a machine reacts to; a part of it when the reference began with that part's own name.
    Event {
        part: Option<EventPart>,
    },
}

/// Parts of an event that have names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventPart {
    Output,
    Error,
}

impl EventPart {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(Arc<str>),
    Index(usize),
}

/// What names mean where an expression stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// What a map calls its item.
    pub item: Option<&'a str>,
    /// In a body: what is its own. All else is read from outside.
    pub own: Option<&'a OwnNames>,
    /// The root at which the items around the expression are read, when they are the body's own.
    pub fan: Option<&'static str>,
    /// Whether there is a machine that has a context already.
    pub has_context: bool,
}

/// What belongs to a body.
#[derive(Clone, Debug, Default)]
pub struct OwnNames {
    pub nodes: BTreeSet<String>,
    /// What the maps around the body call their items.
    pub outer_items: BTreeSet<String>,
}

impl Names<'_> {
    /// Whether an expression may start at a name that does not mean the same everywhere.
    pub(super) fn contain(&self, root: &str) -> bool {
        self.item == Some(root) || self.own.is_some_and(|own| own.outer_items.contains(root))
    }

    fn is_outside(&self, root: &str, path: &[Step]) -> bool {
        let Some(own) = self.own.filter(|_| self.item != Some(root)) else { return false };
        match (root, path.first()) {
            ("inputs", _) => true,
            ("nodes", Some(Step::Key(node))) => !own.nodes.contains(&**node),
            ("item" | "loop", _) => self.fan != Some(root),
            ("context", _) => !self.has_context,
            _ => own.outer_items.contains(root),
        }
    }
}

/// The names that an expression may start at.
pub(crate) const ROOTS: &[&str] = &[
    "inputs",
    "nodes",
    "run",
    "node",
    "secrets",
    "item",
    "loop",
    "acc",
    "context",
    "event",
    "output",
    "error",
    "parameters",
];
/// Names that the language keeps for what arrives later.
pub(super) const LATER_ROOTS: &[&str] = &["vars"];

impl Reference {
    /// The node whose output, status or error is read.
    pub fn node(&self) -> Option<&str> {
        match &self.source {
            Source::Output { node } | Source::Status { node } | Source::Error { node } => Some(node),
            _ => None,
        }
    }

    /// The first key of the path: the name of an input, of a secret, …
    pub fn first_key(&self) -> Option<&str> {
        match self.path.first() {
            Some(Step::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The keys from the root on, up to the first place in a list: what is handed to a body for it.
    pub(crate) fn outside_keys(&self) -> Vec<&str> {
        let keys = self.path.iter().map_while(|step| match step {
            Step::Key(key) => Some(&**key),
            Step::Index(_) => None,
        });
        keys.collect()
    }

    /// As it is written where it is handed over.
    pub(crate) fn outside_text(&self) -> String {
        let keys = self.path.iter().take(self.outside_keys().len()).cloned().collect();
        Self { source: Source::Outside, path: keys }.to_string()
    }

    /// Reads a reference from the tokens that begin with a root, and says how many tokens it takes.
    pub(super) fn read(tokens: &[Token<'_>], names: Names<'_>) -> Result<(Self, usize), String> {
        let (mut path, length) = read_path(tokens);
        let source = match tokens[0].text {
            root if names.is_outside(root, &path) => outside(root, &mut path)?,
            name if Some(name) == names.item => {
                path.insert(0, Step::Key("value".into()));
                Source::Item
            }
            "item" => Source::Item,
            "loop" => Source::Loop,
            "acc" => Source::Accumulator,
            "inputs" => Source::Inputs,
            "run" => Source::Run,
            "node" => Source::Node,
            "secrets" => Source::Secrets,
            "parameters" => Source::Parameters,
            "context" => Source::Context,
            "event" => Source::Event { part: None },
            "output" => Source::Event { part: Some(EventPart::Output) },
            "error" => Source::Event { part: Some(EventPart::Error) },
            _ => {
                read_node_source(&mut path).map_err(|detail| hyphen_hint(tokens, length).unwrap_or(detail))?
            }
        };
        match source {
            // Where they are there: `Checker::check_reads` knows.
            Source::Run if is_label(&path) => {}
            Source::Run => expect_field("run", &path, &["id", "workflow", "created_at", "scheduled_at"])?,
            Source::Node => expect_field("node", &path, &["id", "attempt"])?,
            Source::Secrets if !matches!(path.as_slice(), [Step::Key(_)]) => {
                return Err("a secret is read by its name, as in `secrets.API_TOKEN`".into());
            }
            _ => {}
        }
        Ok((Self { source, path: path.into() }, length))
    }
}

fn read_path(tokens: &[Token<'_>]) -> (Vec<Step>, usize) {
    let (mut path, mut at) = (Vec::new(), 1);
    loop {
        let (step, length) = match &tokens[at.min(tokens.len())..] {
            [dot, name, ..] if dot.is(".") && name.kind == Kind::Name => (Step::Key(name.text.into()), 2),
            [dot, number, ..] if dot.is(".") && number.kind == Kind::Number => match number.text.parse() {
                Ok(index) => (Step::Index(index), 2),
                Err(_) => return (path, at),
            },
            [open, inner, close, ..] if open.is("[") && close.is("]") => match bracket_step(inner) {
                Some(step) => (step, 3),
                None => return (path, at),
            },
            _ => return (path, at),
        };
        path.push(step);
        at += length;
    }
}

/// A text without escapes, or a plain number; anything else is computed by minijinja.
fn bracket_step(token: &Token<'_>) -> Option<Step> {
    match token.kind {
        Kind::Text if !token.text.contains('\\') => {
            Some(Step::Key(token.text[1..token.text.len() - 1].into()))
        }
        Kind::Number => token.text.parse().ok().map(Step::Index),
        _ => None,
    }
}

/// `nodes.a-b.output` is a subtraction, which is hardly ever meant.
fn hyphen_hint(tokens: &[Token<'_>], length: usize) -> Option<String> {
    let (first, rest) = (tokens.get(length.checked_sub(1)?)?, &tokens[length..]);
    match rest {
        [minus, word, ..] if minus.is("-") && minus.is_glued && word.is_glued => Some(format!(
            "a name with a hyphen is written in brackets, as in nodes['{}-{}'].output",
            first.text, word.text
        )),
        _ => None,
    }
}

fn read_node_source(path: &mut Vec<Step>) -> Result<Source, String> {
    let node = match path.first() {
        Some(Step::Key(id)) => id.to_string(),
        _ => return Err("`nodes` is read by a node's id, as in `nodes.load.output`".into()),
    };
    let field = match path.get(1) {
        Some(Step::Key(field)) => field.to_string(),
        _ => String::new(),
    };
    let source = match field.as_str() {
        "output" => Source::Output { node },
        "status" => Source::Status { node },
        "error" => Source::Error { node },
        _ => return Err(format!("of `nodes.{node}` one reads `output`, `status` or `error`")),
    };
    path.drain(..2);
    Ok(source)
}

/// It is written as elsewhere, and read as a whole.
fn outside(root: &str, path: &mut Vec<Step>) -> Result<Source, String> {
    if root == "nodes" {
        read_node_source(&mut path.clone())?;
    }
    path.insert(0, Step::Key(root.into()));
    Ok(Source::Outside)
}

fn is_label(path: &[Step]) -> bool {
    matches!(path, [Step::Key(labels), Step::Key(_)] if &**labels == "labels")
}

fn expect_field(root: &str, path: &[Step], fields: &[&str]) -> Result<(), String> {
    match path {
        [Step::Key(key)] if fields.contains(&&**key) => Ok(()),
        _ => Err(format!("of `{root}` one reads {}", crate::workflow::list_of(fields, "or"))),
    }
}

/// As people write it.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Inputs => f.write_str("inputs")?,
            Source::Run => f.write_str("run")?,
            Source::Node => f.write_str("node")?,
            Source::Secrets => f.write_str("secrets")?,
            Source::Outside => return write_outside(f, &self.path),
            Source::Item => f.write_str("item")?,
            Source::Loop => f.write_str("loop")?,
            Source::Parameters => f.write_str("parameters")?,
            Source::Accumulator => f.write_str("acc")?,
            Source::Context => f.write_str("context")?,
            Source::Event { part } => f.write_str(part.map_or("event", EventPart::name))?,
            Source::Output { node } => write_node(f, node, "output")?,
            Source::Status { node } => write_node(f, node, "status")?,
            Source::Error { node } => write_node(f, node, "error")?,
        }
        write_path(f, &self.path)
    }
}

fn write_path(f: &mut fmt::Formatter<'_>, path: &[Step]) -> fmt::Result {
    path.iter().try_for_each(|step| match step {
        Step::Key(key) if is_name(key) => write!(f, ".{key}"),
        Step::Key(key) if key.contains('\'') => write!(f, "[\"{key}\"]"),
        Step::Key(key) => write!(f, "['{key}']"),
        Step::Index(index) => write!(f, "[{index}]"),
    })
}

fn write_outside(f: &mut fmt::Formatter<'_>, path: &[Step]) -> fmt::Result {
    match path.split_first() {
        Some((Step::Key(root), rest)) => f.write_str(root).and_then(|()| write_path(f, rest)),
        _ => write_path(f, path),
    }
}

fn write_node(f: &mut fmt::Formatter<'_>, node: &str, field: &str) -> fmt::Result {
    if is_name(node) { write!(f, "nodes.{node}.{field}") } else { write!(f, "nodes['{node}'].{field}") }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The value at the end of a path. A missing part makes the whole path undefined, so that
/// `inputs.a.b | default(1)` holds whichever part is missing.
pub(super) fn follow<'v>(value: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| match (value, step) {
        (Value::Object(map), Step::Key(key)) => map.get(&**key),
        (Value::Array(list), Step::Index(index)) => list.get(*index),
        _ => None,
    })
}
