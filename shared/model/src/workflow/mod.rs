//! Definitions: from the text a person wrote to a [`Plan`] that the engine runs.

pub mod catalog;
pub mod expression;
pub mod graph;
pub mod parse;
pub mod schema;
pub mod validate;

use serde::Serialize;

pub use catalog::{Catalog, KindSpec};
pub use parse::{Document, Format};

use crate::Plan;

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

/// Checks a document and compiles it.
///
/// # Errors
/// Every problem of the document at once, in document order.
pub fn compile(document: &Document, catalog: &Catalog) -> Result<Plan, Vec<Problem>> {
    validate::compile(document, catalog)
}
