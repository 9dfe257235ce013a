//! The rules.

use crate::{Event, Input, Plan, Rejection, RunState, Timestamp};

pub fn decide(
    _plan: &Plan,
    _state: &mut RunState,
    _input: Input,
    _now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    Ok(Vec::new())
}
