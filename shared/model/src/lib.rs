//! The nouns and the rules of a workflow run: what happened, what it means, what may happen next.
//!
//! Nothing here is asynchronous, reads a clock, draws a random number or performs IO. Time and ids
//! are arguments. The three functions that everything else leans on:
//!
//! * [`decide`] is the only place where rules live,
//! * [`RunState::apply`] is the only place where state changes,
//! * [`open_work`] says what should be in flight right now.

pub mod actor;
pub mod body;
pub mod callee;
pub mod circuit;
pub mod command;
pub mod concurrency;
pub mod decide;
pub mod error;
pub mod event;
pub mod ids;
pub mod machine;
pub mod open_work;
pub mod payload;
pub mod plan;
pub mod planted;
pub mod present;
pub mod priority;
pub mod rate_limit;
pub mod retry;
pub mod ring;
pub mod schedule;
pub mod state;
pub mod time;
pub mod workflow;

pub use actor::Actor;
pub use command::{ChildEnd, Command, Input, Outcome, Rejection};
pub use decide::decide;
pub use error::StepError;
pub use event::{Event, EventBody};
pub use ids::*;
pub use open_work::open_work;
pub use payload::{BlobRef, Digest, Payload};
pub use plan::Plan;
pub use planted::planted;
pub use priority::Priority;
pub use ring::Ring;
pub use state::{PauseReason, RunState, RunStatus, StepStatus};
pub use time::Timestamp;
