//! What should be in flight right now.

use crate::{Attempt, NodeIndex, RunState, StepKey};

/// An attempt that a runner should be working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    pub node: NodeIndex,
    pub item: Option<u32>,
    pub attempt: Attempt,
}

impl Work {
    pub fn key(self) -> StepKey {
        StepKey { node: self.node, item: self.item }
    }
}

/// Computed from the state, never remembered: after a crash the next engine asks the same question.
pub fn open_work(state: &RunState) -> impl Iterator<Item = Work> {
    let work = |key: StepKey| Work { node: key.node, item: key.item, attempt: state.step(key).attempt };
    state.in_flight.iter().copied().map(work)
}
