//! The rules of a run: one fact a test, the whole table, and random lives.

mod bodies;
mod children;
mod common;
mod continuations;
mod fans;
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod fuzzed;
mod machines;
mod properties;
mod rate_limits;
mod reruns;
mod routing;
mod rules;
mod sagas;
mod slices;
mod state_machine;
