//! Whether a run may begin.

use crate::{RunState, Timestamp};

impl RunState {
    /// Nothing may begin yet.
    pub fn is_held_back(&self, now: Timestamp) -> bool {
        self.is_delayed && self.start_at.is_some_and(|start_at| start_at > now)
    }
}
