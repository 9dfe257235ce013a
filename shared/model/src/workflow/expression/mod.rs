//! `${{ … }}`: conditions and data mapping, without side effects, bounded in time and memory.
//!
//! An expression is Jinja's, evaluated by minijinja. Before minijinja sees it, [`translate`] replaces
//! every reference (`nodes.load.output.rows`) by a variable that [`Context`] binds to the value itself:
//! so evaluating costs what is read, and everything that can be read is known before a run starts.

mod context;
mod engine;
mod lexer;
mod meter;
mod reference;
mod template;
mod translate;
mod view;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::{ErrorKind, Value as Term};
use serde_json::Value;

pub use context::{Context, Reduced, Scene};
pub use engine::{filter_names, test_names};
pub(crate) use reference::ROOTS;
pub use reference::{EventPart, Names, OwnNames, Reference, Source};
pub use template::Template;

use crate::StepError;
use context::Found;
use translate::Translation;
use view::Room;

/// The longest expression, without its delimiters.
pub const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// How deep a value may nest that an expression or a template makes: its JSON must be readable again
/// inside the events and states that carry it, and readers stop at 128.
pub const VALUE_DEPTH_MAX: usize = 100;

/// One compiled expression.
pub struct Expression {
    text: String,
    references: Vec<Reference>,
    program: Program,
}

enum Program {
    /// The value of the only reference, as it is.
    Read,
    /// Boxed: plans hold many expressions, and most of them are short.
    Compute(Box<minijinja::Expression<'static, 'static>>),
}

impl Expression {
    /// Compiles `a.b == 1`, with or without `${{ }}` around it.
    ///
    /// # Errors
    /// A sentence with what is wrong in the expression.
    pub fn compile(text: &str) -> Result<Self, String> {
        Self::compile_with(text, Names::default())
    }

    /// The same, where names mean more than they do everywhere.
    ///
    /// # Errors
    /// A sentence with what is wrong in the expression.
    pub fn compile_with(text: &str, names: Names<'_>) -> Result<Self, String> {
        let trimmed = text.trim();
        if !trimmed.contains("${{") {
            let tokens = lexer::whole(trimmed)?;
            return Self::from_tokens(trimmed, &tokens, names);
        }
        match lexer::split(trimmed)?.as_slice() {
            [lexer::Part::Expression { text, tokens }] => Self::from_tokens(text, tokens, names),
            _ => Err("text around `${{ … }}` makes this text, not one expression".into()),
        }
    }

    pub(crate) fn from_tokens(
        text: &str,
        tokens: &[lexer::Token<'_>],
        names: Names<'_>,
    ) -> Result<Self, String> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("an expression has at most {EXPRESSION_BYTES_MAX} bytes"));
        }
        let Translation { references, program, is_reference } = translate::translate(tokens, names)?;
        let program = if is_reference {
            Program::Read
        } else {
            let compiled = guarded(|| engine::environment().compile_expression_owned(program))?;
            Program::Compute(Box::new(compiled.map_err(|error| sentence(&error))?))
        };
        Ok(Self { text: text.trim().to_owned(), references, program })
    }

    /// The expression as it was written, without delimiters.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything that the expression can read, in the order it is written.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// # Errors
    /// `expression` or `limit.expression` errors.
    pub fn eval(&self, context: &Context<'_>) -> Result<Value, StepError> {
        self.eval_into(context, &mut Room::new())
    }

    /// The value as a condition: false, null, 0, "" and empty containers are false.
    ///
    /// # Errors
    /// `expression` or `limit.expression` errors.
    pub fn is_true(&self, context: &Context<'_>) -> Result<bool, StepError> {
        match &self.program {
            Program::Read => match self.read(context)? {
                Found::Shared(root, path) => {
                    let value = reference::follow(root, path).ok_or_else(|| self.undefined(context))?;
                    Ok(is_true(value))
                }
                Found::Owned(value) => Ok(is_true(&value)),
                Found::Missing => Err(self.undefined(context)),
            },
            Program::Compute(program) => meter::run(|| {
                let term = self.compute(program, context)?;
                if term.is_undefined() { Err(self.undefined(context)) } else { Ok(term.is_true()) }
            }),
        }
    }

    /// Evaluates to a value that fits into what room is left, and takes that room.
    fn eval_into(&self, context: &Context<'_>, room: &mut Room) -> Result<Value, StepError> {
        let value = match &self.program {
            Program::Read => match self.read(context)? {
                Found::Shared(root, path) => {
                    let value = reference::follow(root, path).ok_or_else(|| self.undefined(context))?;
                    // Measured before it is copied.
                    self.take_room(value, room)?;
                    return Ok(value.clone());
                }
                Found::Owned(value) => value,
                Found::Missing => return Err(self.undefined(context)),
            },
            Program::Compute(program) => meter::run(|| {
                let term = self.compute(program, context)?;
                if term.is_undefined() {
                    return Err(self.undefined(context));
                }
                view::to_json(&term, room.clone()).map_err(|error| self.failure(&error, context))
            })?,
        };
        self.take_room(&value, room)?;
        Ok(value)
    }

    fn read<'c>(&'c self, context: &'c Context<'_>) -> Result<Found<'c>, StepError> {
        context.find(&self.references[0])
    }

    fn compute(
        &self,
        program: &minijinja::Expression<'_, '_>,
        context: &Context<'_>,
    ) -> Result<Term, StepError> {
        let bindings = self
            .references
            .iter()
            .map(|reference| Ok(context.find(reference)?.into_term()))
            .collect::<Result<Vec<_>, StepError>>()?;
        let term = guarded(|| program.eval(view::bindings(bindings)))
            .map_err(|detail| self.error("expression", &detail))?
            .map_err(|error| self.failure(&error, context))?;
        if meter::is_exhausted() { Err(self.too_much()) } else { Ok(term) }
    }

    fn take_room(&self, value: &Value, room: &mut Room) -> Result<(), StepError> {
        let size = view::measure(value);
        if !room.take(size) {
            let detail = format!("its value of about {} bytes is more than there is room for", size.bytes);
            return Err(self.error("limit.expression", &detail));
        }
        if size.depth > VALUE_DEPTH_MAX {
            let detail = format!("its value nests deeper than {VALUE_DEPTH_MAX} levels");
            return Err(self.error("limit.expression", &detail));
        }
        Ok(())
    }

    fn failure(&self, error: &minijinja::Error, context: &Context<'_>) -> StepError {
        match error.kind() {
            _ if meter::is_exhausted() => self.too_much(),
            ErrorKind::OutOfFuel => self.too_much(),
            ErrorKind::UndefinedError => self.undefined(context),
            _ => self.error("expression", &sentence(error)),
        }
    }

    fn too_much(&self) -> StepError {
        self.error("limit.expression", "it reads or makes more than an expression may")
    }

    fn undefined(&self, context: &Context<'_>) -> StepError {
        let missing: Vec<String> = self
            .references
            .iter()
            .filter(|reference| context.is_missing(reference))
            .map(|reference| format!("`{reference}`"))
            .collect();
        let detail = match missing.as_slice() {
            [] => "it uses something that is undefined".to_owned(),
            [one] => format!("{one} is undefined"),
            many => format!("{} are undefined", many.join(" and ")),
        };
        self.error("expression", &detail)
    }

    fn error(&self, kind: &str, detail: &str) -> StepError {
        let text = super::excerpt(&self.text);
        StepError::new(kind, format!("the expression `{text}` failed: {detail}"))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.text)
    }
}

/// About how long a value's JSON is.
pub(crate) fn bytes_of(value: &Value) -> usize {
    view::measure(value).bytes
}

/// minijinja is written not to panic, and sometimes does (`'abc'[0:2:-1]` with overflow checks). The
/// engine that asks holds other runs, too.
fn guarded<T>(ask: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(ask)).map_err(|_| "minijinja cannot evaluate it".into())
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn sentence(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}
