//! JSON values whose strings may hold expressions.

use std::fmt;

use serde_json::Value;

use super::lexer::{Part, split};
use super::view::{self, Room};
use super::{Context, Expression, Names, Reference, VALUE_DEPTH_MAX};
use crate::StepError;

/// A JSON value whose strings may hold expressions.
///
/// A string that is exactly one expression becomes the expression's value and keeps its type. Any other
/// string with expressions becomes text: text as it is, everything else as JSON. Keys are literal.
#[derive(Debug)]
pub struct Template {
    source: Value,
    /// In document order.
    holes: Vec<Hole>,
}

/// A string that is computed, and where it stands.
struct Hole {
    path: Vec<Step>,
    filling: Filling,
}

#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

enum Filling {
    Typed(Expression),
    Text(Vec<Piece>),
}

enum Piece {
    Literal(String),
    Expression(Expression),
}

/// What is wrong with one of a template's strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// JSON pointer into the template.
    pub pointer: String,
    pub detail: String,
}

impl Template {
    /// # Errors
    /// Each string that holds an expression which does not compile.
    pub fn compile(source: Value) -> Result<Self, Vec<TemplateProblem>> {
        Self::compile_with(source, Names::default())
    }

    /// The same, where names mean more than they do everywhere.
    ///
    /// # Errors
    /// Each string that holds an expression which does not compile.
    pub fn compile_with(source: Value, names: Names<'_>) -> Result<Self, Vec<TemplateProblem>> {
        let mut compiler = Compiler { names, ..Compiler::default() };
        compiler.value(&source);
        if compiler.problems.is_empty() {
            Ok(Self { source, holes: compiler.holes })
        } else {
            Err(compiler.problems)
        }
    }

    /// A value that stays as it is, whatever it looks like.
    pub fn literal(source: Value) -> Self {
        Self { source, holes: Vec::new() }
    }

    /// The value as it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Whether it is the same value for every run.
    pub fn is_literal(&self) -> bool {
        self.holes.is_empty()
    }

    /// Everything that its expressions can read, each with the pointer of its string.
    pub fn references(&self) -> impl Iterator<Item = (String, &Reference)> {
        self.holes.iter().flat_map(|hole| {
            let pointer = pointer(&hole.path);
            hole.filling
                .expressions()
                .flat_map(Expression::references)
                .map(move |reference| (pointer.clone(), reference))
        })
    }

    /// # Errors
    /// `expression` or `limit.expression` errors.
    pub fn render(&self, context: &Context<'_>) -> Result<Value, StepError> {
        let mut value = self.source.clone();
        let mut room = Room::new();
        for hole in &self.holes {
            let filled = hole.filling.render(context, &mut room)?;
            if hole.path.len() + view::measure(&filled).depth > VALUE_DEPTH_MAX {
                let detail = format!("the value nests deeper than {VALUE_DEPTH_MAX} levels");
                return Err(StepError::new("limit.expression", detail));
            }
            if let Some(slot) = slot(&mut value, &hole.path) {
                *slot = filled;
            }
        }
        Ok(value)
    }
}

fn slot<'v>(value: &'v mut Value, path: &[Step]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

fn pointer(path: &[Step]) -> String {
    path.iter()
        .map(|step| match step {
            Step::Key(key) => format!("/{}", crate::workflow::escape_pointer(key)),
            Step::Index(index) => format!("/{index}"),
        })
        .collect()
}

#[derive(Default)]
struct Compiler<'a> {
    names: Names<'a>,
    path: Vec<Step>,
    holes: Vec<Hole>,
    problems: Vec<TemplateProblem>,
}

impl Compiler<'_> {
    /// Recursion is bounded by the depth of documents.
    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.contains("${{") => self.text(text),
            Value::Array(list) => {
                for (index, inner) in list.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    self.value(inner);
                    self.path.pop();
                }
            }
            Value::Object(map) => {
                for (key, inner) in map {
                    self.path.push(Step::Key(key.clone()));
                    self.value(inner);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        match Filling::compile(text, self.names) {
            Ok(filling) => self.holes.push(Hole { path: self.path.clone(), filling }),
            Err(detail) => self.problems.push(TemplateProblem { pointer: pointer(&self.path), detail }),
        }
    }
}

impl Filling {
    fn compile(text: &str, names: Names<'_>) -> Result<Self, String> {
        let parts = split(text)?;
        if let [Part::Expression { text, tokens }] = parts.as_slice() {
            return Expression::from_tokens(text, tokens, names).map(Self::Typed);
        }
        let pieces = parts.iter().map(|part| match part {
            Part::Literal(text) => Ok(Piece::Literal((*text).to_owned())),
            Part::Expression { text, tokens } => {
                Expression::from_tokens(text, tokens, names).map(Piece::Expression)
            }
        });
        pieces.collect::<Result<_, String>>().map(Self::Text)
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let (typed, pieces) = match self {
            Self::Typed(expression) => (Some(expression), [].as_slice()),
            Self::Text(pieces) => (None, pieces.as_slice()),
        };
        let in_text = pieces.iter().filter_map(|piece| match piece {
            Piece::Expression(expression) => Some(expression),
            Piece::Literal(_) => None,
        });
        typed.into_iter().chain(in_text)
    }

    fn render(&self, context: &Context<'_>, room: &mut Room) -> Result<Value, StepError> {
        let pieces = match self {
            Self::Typed(expression) => return expression.eval_into(context, room),
            Self::Text(pieces) => pieces,
        };
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Expression(expression) => match expression.eval_into(context, room)? {
                    Value::String(value) => text.push_str(&value),
                    value => text.push_str(&value.to_string()),
                },
            }
        }
        Ok(Value::String(text))
    }
}

impl fmt::Debug for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entry(&pointer(&self.path), &self.filling.expressions().collect::<Vec<_>>()).finish()
    }
}
