//! The door, spoken to as a client would: over its router, with a store in memory.
//!
//! Every answer that a test gets is held against the OpenAPI description on the way; see [`contract`].

mod approvals;
mod artifacts;
mod bodies;
mod commands;
mod contract;
mod engine;
mod events;
#[path = "../../../shared/model/tests/fuzz/mod.rs"]
mod fuzz;
mod fuzzed;
mod health;
mod house;
mod idempotency;
mod lists;
mod origins;
mod runs;
mod schedules;
mod serving;
mod slow;
mod steps;
mod websocket;
mod workflows;
