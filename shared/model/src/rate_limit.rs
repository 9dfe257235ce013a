//! Rate limits: how often a tool or an agent may be called, and how many runs of a workflow may start.
//!
//! A limit is one time: until when all turns are given away. Who asks gets the next one and moves that time by what a turn
//! takes. So a limit costs one row, and those who wait come in the order in which they asked.

use std::time::Duration;

use serde_json::json;

use crate::callee::CalleeKind;
use crate::time::SPAN_MAX;
use crate::{StepError, TenantId, Timestamp, planted};

/// Turns within one period.
pub const TURNS_MAX: u32 = 100_000;
/// With [`TURNS_MAX`], one turn takes ten microseconds at the least.
pub const PERIOD_MIN: Duration = Duration::from_secs(1);
pub const PERIOD_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// Who comes this much later than at its turn, because no worker was there or the run was paused, asks for another: else
/// all that has waited meanwhile would come at once.
pub const LATE_MAX: Duration = Duration::from_secs(10);

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many turns come in each period, evenly.
    pub turns: u32,
    pub per: Duration,
    /// So many may be taken at once after a while without any.
    pub burst: u32,
    pub on_limit: OnLimit,
}

/// What becomes of one that is too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
    /// It waits for its turn.
    #[default]
    Wait,
    /// It is refused.
    Reject,
}

/// What a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// Calls of a tool or an agent.
    Calls(CalleeKind),
    /// Runs of a workflow.
    Runs,
}

/// Whose limit: one for each tool, each agent and each workflow of a tenant, whichever definition says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitKey {
    pub tenant: TenantId,
    pub kind: Limited,
    pub name: String,
}

/// Where a limit stands. One that nothing is known of has all its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Until then all turns are given away.
    pub taken_until: Timestamp,
    /// As whoever asked last has it.
    pub limit: RateLimit,
}

/// The answer to who asks for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Now,
    /// It is taken, and comes then.
    At(Timestamp),
    /// None is taken; there is one after that time.
    Refused {
        retry_after: Duration,
    },
}

impl OnLimit {
    pub const ALL: &[(&str, OnLimit)] = &[("wait", OnLimit::Wait), ("reject", OnLimit::Reject)];
}

impl Limited {
    pub const ALL: [Self; 3] = [Self::Calls(CalleeKind::Tool), Self::Calls(CalleeKind::Agent), Self::Runs];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls(callee) => callee.as_str(),
            Self::Runs => "workflow",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl RateLimit {
    /// What one turn takes.
    fn spacing(&self) -> Duration {
        self.per / self.turns.max(1)
    }

    /// When the next turn comes, if all are given away until `taken_until`.
    fn next_turn(&self, taken_until: Timestamp, now: Timestamp) -> Timestamp {
        let saved = self.spacing() * self.burst.saturating_sub(1);
        now.max(taken_until.minus(saved))
    }
}

impl LimitState {
    pub fn untouched(limit: RateLimit, now: Timestamp) -> Self {
        Self { taken_until: now, limit }
    }

    /// Takes the next turn.
    pub fn take(&mut self, limit: RateLimit, now: Timestamp) -> Turn {
        let at = limit.next_turn(self.taken_until, now);
        let wait = now.until(at);
        let is_too_far = wait > SPAN_MAX || limit.on_limit == OnLimit::Reject;
        if is_too_far && !wait.is_zero() {
            return Turn::Refused { retry_after: wait };
        }
        let taken = if planted("turns_are_not_counted") { Duration::ZERO } else { limit.spacing() };
        *self = Self { taken_until: self.taken_until.max(now).plus(taken), limit };
        if wait.is_zero() { Turn::Now } else { Turn::At(at) }
    }

    /// When whoever asked now would have its turn.
    pub fn next_at(&self, now: Timestamp) -> Timestamp {
        self.limit.next_turn(self.taken_until, now)
    }

    /// How many turns are taken and have not come.
    pub fn waiting(&self, now: Timestamp) -> u64 {
        let spacing = self.limit.spacing().as_micros().max(1);
        // Of the turns until then, the last one is nobody's.
        let turns = now.until(self.next_at(now)).as_micros().div_ceil(spacing);
        u64::try_from(turns.saturating_sub(1)).unwrap_or(u64::MAX)
    }
}

/// What fails because it is one too many and does not wait.
pub fn refused(what: &str, retry_after: Duration) -> StepError {
    let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    StepError::new("rate.limited", format!("{what} too often; the next may in {retry_after:?}"))
        .with_details(json!({ "retry_after_ms": retry_after_ms }))
}

/// Whether a turn that was taken still holds.
pub fn holds(turn_at: Option<Timestamp>, now: Timestamp) -> bool {
    turn_at.is_some_and(|at| now <= at.plus(LATE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(turns: u32, burst: u32, on_limit: OnLimit) -> RateLimit {
        RateLimit { turns, per: Duration::from_secs(1), burst, on_limit }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp(0).plus(Duration::from_millis(ms))
    }

    #[test]
    fn turns_come_evenly_and_in_order() {
        let limit = limit(4, 1, OnLimit::Wait);
        let mut state = LimitState::untouched(limit, at(0));
        let turns: Vec<Turn> = (0..4).map(|_| state.take(limit, at(0))).collect();
        assert_eq!(turns, [Turn::Now, Turn::At(at(250)), Turn::At(at(500)), Turn::At(at(750))]);
        assert_eq!((state.waiting(at(0)), state.next_at(at(0))), (3, at(1000)));
        // A turn that comes just now does not wait any more.
        assert_eq!([250, 600, 750, 5000].map(|ms| state.waiting(at(ms))), [2, 1, 0, 0]);
        assert_eq!(state.take(limit, at(5000)), Turn::Now);
    }

    #[test]
    fn what_was_not_taken_may_be_taken_at_once() {
        let limit = limit(2, 3, OnLimit::Wait);
        let mut state = LimitState::untouched(limit, at(0));
        let turns: Vec<Turn> = (0..5).map(|_| state.take(limit, at(0))).collect();
        assert_eq!(turns, [Turn::Now, Turn::Now, Turn::Now, Turn::At(at(500)), Turn::At(at(1000))]);
        assert_eq!(state.waiting(at(0)), 2);
    }

    #[test]
    fn who_will_not_wait_takes_nothing() {
        let limit = limit(2, 1, OnLimit::Reject);
        let mut state = LimitState::untouched(limit, at(0));
        assert_eq!(state.take(limit, at(0)), Turn::Now);
        assert_eq!(state.waiting(at(0)), 0);
        for ms in [0, 100] {
            let retry_after = Duration::from_millis(500 - ms);
            assert_eq!(state.take(limit, at(ms)), Turn::Refused { retry_after });
        }
        assert_eq!(state.take(limit, at(500)), Turn::Now);
    }

    #[test]
    fn no_period_has_more_than_its_turns_and_the_burst() {
        let limit = limit(5, 5, OnLimit::Wait);
        let mut state = LimitState::untouched(limit, at(0));
        let mut comes: Vec<Timestamp> = Vec::new();
        for now in (0..4000).step_by(70).map(at) {
            comes.push(match state.take(limit, now) {
                Turn::At(at) => at,
                _ => now,
            });
        }
        for first in &comes {
            let end = first.plus(limit.per);
            assert!(comes.iter().filter(|it| *it >= first && **it < end).count() <= 10);
        }
    }

    #[test]
    fn a_turn_holds_for_a_while_and_not_for_ever() {
        let late = at(0).plus(LATE_MAX);
        assert!(holds(Some(at(0)), late) && holds(Some(at(0)), at(0)));
        assert!(!holds(Some(at(0)), late.plus(Duration::from_millis(1))) && !holds(None, at(0)));
    }
}
