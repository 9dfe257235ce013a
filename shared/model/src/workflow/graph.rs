//! The definition as a picture: Mermaid and DOT.

use crate::Plan;

pub fn mermaid(_plan: &Plan) -> String {
    String::new()
}

pub fn dot(_plan: &Plan) -> String {
    String::new()
}
