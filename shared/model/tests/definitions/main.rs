//! Definitions, from text to plan, and the expressions in them.

mod attacks;
mod bodies;
mod callees;
mod expressions;
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod fuzzed;
mod graphs;
mod plans;
mod problems;
mod properties;
mod schemas;
mod support;
mod world;
