//! From text to a document with positions.

mod json;
mod positions;
mod yaml;

use serde_json::Value;

use super::Problem;
use positions::Spot;

/// The longest definition that is read.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// How deep values may nest: every later walk over a document may recurse.
pub const DEPTH_MAX: usize = 64;
/// How many values a document may hold, aliases written out: bounds the memory of a reader.
pub const VALUES_MAX: usize = 200_000;
/// A list of problems stops here: nobody reads further.
pub const PROBLEMS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Json,
}

impl Format {
    /// The format that a file's name promises; YAML unless it ends in `.json`.
    pub fn of_name(name: &str) -> Self {
        if name.to_ascii_lowercase().ends_with(".json") { Self::Json } else { Self::Yaml }
    }
}

/// A definition as values, knowing where in its text each value stood.
#[derive(Clone, Debug)]
pub struct Document {
    pub spec: Value,
    spots: Option<Spot>,
}

/// What a position should point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The key of an object's member; the value where there is no key.
    Key,
    Value,
}

impl Document {
    /// # Errors
    /// Syntax errors, duplicate keys, forbidden YAML features, exceeded limits.
    pub fn parse(text: &str, format: Format) -> Result<Self, Vec<Problem>> {
        if text.len() > DOCUMENT_BYTES_MAX {
            let detail = format!(
                "the document has {} bytes; a definition has at most {DOCUMENT_BYTES_MAX}",
                text.len()
            );
            return Err(vec![Problem::new("document_too_large", "", detail)]);
        }
        let (spec, spots) = match format {
            Format::Yaml => yaml::read(text)?,
            Format::Json => json::read(text)?,
        };
        Ok(Self { spec, spots: Some(spots) })
    }

    /// A document that came as JSON values and has no text to point into.
    pub fn from_value(spec: Value) -> Self {
        Self { spec, spots: None }
    }

    /// One-based line and column of what a JSON pointer names, when the document came as text.
    ///
    /// Something that is missing is reported where it should have stood: at its nearest parent.
    pub fn position(&self, pointer: &str, place: Place) -> Option<(u32, u32)> {
        let found = self.spots.as_ref()?.find(&self.spec, pointer);
        let at = match place {
            Place::Key if found.is_whole => found.spot.key_at.unwrap_or(found.spot.at),
            _ => found.spot.at,
        };
        Some((at.line, at.column))
    }

    /// Sorts problems as a reader of the document meets them, and says where each one is.
    pub(crate) fn arrange(&self, problems: Vec<(Problem, Place)>) -> Vec<Problem> {
        let mut ordered: Vec<_> = problems
            .into_iter()
            .map(|(problem, place)| (positions::order(&self.spec, &problem.pointer), problem, place))
            .collect();
        ordered.sort_by(|a, b| a.0.cmp(&b.0));
        ordered
            .into_iter()
            .map(|(_, problem, place)| match self.position(&problem.pointer, place) {
                Some((line, column)) => Problem { line: Some(line), column: Some(column), ..problem },
                None => problem,
            })
            .collect()
    }
}

/// What both readers hold while they read: the problems that did not stop them, and the budget.
struct Reading {
    problems: Vec<Problem>,
    values: usize,
}

/// Reading ended early; the problems say why.
struct Stopped;

impl Reading {
    fn new() -> Self {
        Self { problems: Vec::new(), values: 0 }
    }

    /// Notes a problem and goes on, unless there are too many of them.
    fn note(
        &mut self,
        code: &'static str,
        at: positions::At,
        detail: impl Into<String>,
    ) -> Result<(), Stopped> {
        self.problems.push(Problem {
            line: Some(at.line),
            column: Some(at.column),
            ..Problem::new(code, "", detail)
        });
        if self.problems.len() < PROBLEMS_MAX { Ok(()) } else { Err(Stopped) }
    }

    fn stop<T>(
        &mut self,
        code: &'static str,
        at: positions::At,
        detail: impl Into<String>,
    ) -> Result<T, Stopped> {
        self.note(code, at, detail)?;
        Err(Stopped)
    }

    fn count(&mut self, values: usize, at: positions::At) -> Result<(), Stopped> {
        self.values += values;
        if self.values > VALUES_MAX {
            return self.stop(
                "document_too_large",
                at,
                format!("the document holds more than {VALUES_MAX} values"),
            );
        }
        Ok(())
    }

    fn check_text(&mut self, text: &str, at: positions::At) -> Result<(), Stopped> {
        if text.contains('\0') {
            self.note("nul_character", at, "text must not hold the character NUL (\\u0000)")?;
        }
        Ok(())
    }

    fn too_deep<T>(&mut self, at: positions::At) -> Result<T, Stopped> {
        self.stop("too_deep", at, format!("values nest deeper than {DEPTH_MAX} levels"))
    }

    fn duplicate(&mut self, key: &str, at: positions::At) -> Result<(), Stopped> {
        self.note("duplicate_key", at, format!("the key `{}` stands here twice", super::excerpt(key)))
    }

    fn finish(self, read: Result<(Value, Spot), Stopped>) -> Result<(Value, Spot), Vec<Problem>> {
        match read {
            Ok(found) if self.problems.is_empty() => Ok(found),
            _ => Err(self.problems),
        }
    }
}

/// An integer written out, kept exact; none when no JSON reader would keep it.
fn exact_integer(text: &str) -> Option<Value> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    digits.parse::<i64>().map(Value::from).or_else(|_| digits.parse::<u64>().map(Value::from)).ok()
}

const NUMBER_RANGE: &str =
    "is out of range: integers lie between -2^63 and 2^64 - 1; write it as text, in quotes";
