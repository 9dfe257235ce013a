//! One tick, written once for every mode: hold a run, start work, decide, commit, let go.
//!
//! [`Engine::drive`] is the story: claim a run, fold it, then tick until it parks.

mod attempt;
mod breaker;
mod call;
mod clock;
mod engine;
mod family;
mod groups;
mod held;
mod lease;
pub mod order;
mod patience;
pub mod runner;
pub mod secrets;
mod timers;
mod turn;

pub use clock::Clock;
pub use engine::{Engine, EngineOptions, EngineParts};
pub use lease::Lease;
pub use runner::{Done, Emit, Failure, File, Progress, Runner, Runners, StepContext};
pub use secrets::Secrets;
