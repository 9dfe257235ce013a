//! Definitions: from the text a person wrote to a [`Plan`] that the engine runs.

pub mod catalog;
pub mod expression;
mod format;
pub mod graph;
mod link;
pub mod parse;
pub mod schema;
pub mod validate;

use std::borrow::Cow;

use serde::Serialize;

pub use catalog::{Catalog, KindSpec};
pub use format::format_schema;
pub use parse::{Document, Format};

use crate::Plan;
use crate::callee::{Callee, CalleeKind};

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable, snake case: `unknown_field`, `cycle`, `unknown_node`, `bad_expression`, `yaml_limit`, …
    pub code: &'static str,
    /// JSON pointer into the document.
    pub pointer: String,
    /// One sentence for people.
    pub detail: String,
    /// One-based, in the text the definition was read from; none when it came as JSON values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code, pointer: pointer.into(), detail: detail.into(), line: None, column: None }
    }
}

/// Checks a document and compiles it.
///
/// # Errors
/// Every problem of the document at once, in document order; at most [`parse::PROBLEMS_MAX`].
pub fn compile(document: &Document, catalog: &Catalog) -> Result<Plan, Vec<Problem>> {
    validate::compile(document, catalog)
}

/// The same for a definition that was stored: it may be the body of a node, which is a definition of its own.
///
/// # Errors
/// As [`compile`].
pub fn compile_stored(document: &Document, catalog: &Catalog) -> Result<Plan, Vec<Problem>> {
    validate::compile_stored(document, catalog)
}

/// Checks a tool or an agent that stands alone, with its `name` inside.
///
/// # Errors
/// As [`compile`].
pub fn compile_callee(
    document: &Document,
    kind: CalleeKind,
    catalog: &Catalog,
) -> Result<Callee, Vec<Problem>> {
    validate::compile_callee(document, kind, catalog)
}

/// Checks the `tools` and `agents` of a document, and nothing else in it.
///
/// # Errors
/// As [`compile`].
pub fn check_callees(document: &Document, catalog: &Catalog) -> Result<(), Vec<Problem>> {
    validate::check_callees(document, catalog)
}

/// A key as a token of a JSON pointer.
pub(crate) fn escape_pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// How much of a text that somebody wrote a message repeats.
const EXCERPT_CHARS_MAX: usize = 80;

/// A text that somebody wrote, fit for a message: on one line, without control characters, not too long.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_control() && !is_invisible(c);
    if text.len() <= EXCERPT_CHARS_MAX && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown: String = text
        .chars()
        .take(EXCERPT_CHARS_MAX)
        .map(|c| {
            if c == '\n' {
                ' '
            } else if is_plain(c) {
                c
            } else {
                '\u{fffd}'
            }
        })
        .collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    Cow::Owned(shown)
}

/// Characters that change how the text around them looks: directions, joiners, marks of no width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The one of `names` that somebody who wrote `name` probably meant.
pub(crate) fn closest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Words of more than this are not typing mistakes worth the time that comparing them takes.
    const NAME_CHARS_MAX: usize = 64;
    let length = name.chars().count();
    if length > NAME_CHARS_MAX {
        return None;
    }
    // One letter for short words, none for letters.
    let far = ((length + 1) / 3).min(3);
    names
        .into_iter()
        // Most names differ too much in length already, which is much cheaper to see.
        .filter(|other| other.len() <= NAME_CHARS_MAX * 4 && other.chars().count().abs_diff(length) <= far)
        .map(|other| (distance(name, other), other))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// How many letters to change, add, remove or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = table[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let grown = table[(i - 1) * width + j].min(table[i * width + j - 1]) + 1;
                let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swapped = if is_swap { table[(i - 2) * width + j - 2] + 1 } else { usize::MAX };
                changed.min(grown).min(swapped)
            };
        }
    }
    table[a.len() * width + b.len()]
}

/// `a`, `b` or `c`, each in backticks.
pub(crate) fn list_of(names: &[&str], last: &str) -> String {
    match names {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [rest @ .., end] => {
            let rest: Vec<String> = rest.iter().map(|name| format!("`{name}`")).collect();
            format!("{} {last} `{end}`", rest.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_the_word_that_was_meant() {
        let names = ["needs", "retry", "timeout", "on_error"];
        for (name, meant) in
            [("need", "needs"), ("rety", "retry"), ("timeuot", "timeout"), ("onerror", "on_error")]
        {
            assert_eq!(closest(name, names), Some(meant), "{name}");
        }
        for name in ["xyz", "n", "", "compensate", "network"] {
            assert_eq!(closest(name, names), None, "{name}");
        }
    }

    #[test]
    fn what_somebody_wrote_is_shown_on_one_short_line_without_control_characters() {
        assert_eq!(excerpt("a\nb\u{1b}[31m\u{202e}"), "a b\u{fffd}[31m\u{fffd}");
        assert_eq!(excerpt(&"x".repeat(100)), format!("{}…", "x".repeat(80)));
    }
}
