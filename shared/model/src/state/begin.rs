//! Whether a run may begin: its time has come, it has a place in its concurrency group, and it is its turn.

use super::Phase;
use crate::concurrency::Place;
use crate::event::OriginReason;
use crate::{Plan, RunState, Timestamp, planted, rate_limit};

impl RunState {
    /// Nothing may begin yet.
    pub fn is_held_back(&self, now: Timestamp) -> bool {
        self.starts_later(now) || self.wants_place()
    }

    pub(super) fn starts_later(&self, now: Timestamp) -> bool {
        self.is_delayed && !planted("begins_early") && self.start_at.is_some_and(|start_at| start_at > now)
    }

    /// Whether it needs a place in its group and has none.
    pub fn wants_place(&self) -> bool {
        self.group.is_some() && self.place != Place::Held
    }

    /// Whether an engine shall ask now for a turn under the rate limit of the run's workflow.
    pub fn asks_for_turn(&self, plan: &Plan, now: Timestamp) -> bool {
        plan.rate_limit.is_some()
            && !self.has_begun
            && !self.takes_a_place()
            && matches!(self.phase, Phase::Active)
            && !self.is_held_back(now)
            && !self.is_stopping(now)
            && !rate_limit::holds(self.turn_at, now)
    }

    /// It goes on in the place of another run: nothing starts.
    fn takes_a_place(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.because == OriginReason::Move)
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
