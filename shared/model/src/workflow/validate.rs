//! Checks a document as a whole and builds its plan.

use super::{Catalog, Document, Problem};
use crate::Plan;

pub fn compile(_document: &Document, _catalog: &Catalog) -> Result<Plan, Vec<Problem>> {
    Err(Vec::new())
}
