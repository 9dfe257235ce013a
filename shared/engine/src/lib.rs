//! One tick, written once for every mode: hold a run, start work, decide, commit, let go.

pub mod runner;

pub use runner::{Done, Emit, Failure, File, Progress, Runner, Runners, StepContext};
