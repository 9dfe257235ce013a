//! What should be in flight right now.

use crate::{Attempt, NodeIndex, RunState};

/// An attempt that a runner should be working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    pub node: NodeIndex,
    pub item: Option<u32>,
    pub attempt: Attempt,
}

/// Computed from the state, never remembered: after a crash the next engine asks the same question.
pub fn open_work(state: &RunState) -> impl Iterator<Item = Work> {
    state.in_flight.iter().map(|node| Work { node: *node, item: None, attempt: state.step(*node).attempt })
}
