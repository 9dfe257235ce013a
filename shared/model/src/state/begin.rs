//! Whether a run may begin: its time has come, and it has a place in its concurrency group.

use super::Phase;
use crate::concurrency::Place;
use crate::{RunState, Timestamp};

impl RunState {
    /// Nothing may begin yet.
    pub fn is_held_back(&self, now: Timestamp) -> bool {
        self.starts_later(now) || self.wants_place()
    }

    pub(super) fn starts_later(&self, now: Timestamp) -> bool {
        self.is_delayed && self.start_at.is_some_and(|start_at| start_at > now)
    }

    /// Whether it needs a place in its group and has none.
    pub fn wants_place(&self) -> bool {
        self.group.is_some() && self.place != Place::Held
    }

    /// Whether an engine shall ask for that place now.
    pub fn asks_for_place(&self, now: Timestamp) -> bool {
        self.wants_place()
            && self.place == Place::Unasked
            && matches!(self.phase, Phase::Active)
            && !self.starts_later(now)
            && !self.is_stopping(now)
    }
}
