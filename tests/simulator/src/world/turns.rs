//! Turns under rate limits as they were given away, counted beside the database.

use std::collections::BTreeMap;

use windlass_model::Timestamp;
use windlass_model::rate_limit::{LimitKey, RateLimit, Turn};

use crate::reach::Reach;

#[derive(Default)]
pub(super) struct Turns(BTreeMap<LimitKey, Vec<Timestamp>>);

impl Turns {
    /// Those of one limit, in the order in which they were given away.
    pub(super) fn of(&self, key: &LimitKey) -> Vec<Timestamp> {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// I33: what is wrong about the answer to who asked for a turn; nothing, mostly.
    pub(super) fn given(
        &mut self,
        key: &LimitKey,
        limit: RateLimit,
        answer: Turn,
        now: Timestamp,
        reach: &Reach,
    ) -> Option<String> {
        let given = self.0.entry(key.clone()).or_default();
        let spacing = limit.per / limit.turns;
        let last = given.last().copied();
        let (at, is_taken) = match answer {
            Turn::Now => (now, true),
            Turn::At(at) => (at, true),
            Turn::Refused { retry_after } => (now.plus(retry_after), false),
        };
        reach.hit(match answer {
            Turn::Now => "turn_came_at_once",
            Turn::At(_) => "turn_was_put_off",
            Turn::Refused { .. } => "turn_was_refused",
        });
        let complain = |what: String| Some(format!("I33: at {now} {key:?} got {answer:?}: {what}"));
        // Nobody waits longer than what comes evenly takes.
        let latest = last.map_or(now, |last| now.max(last.plus(spacing)));
        if at > latest {
            return complain(format!("the turn before came at {last:?}"));
        }
        if !is_taken {
            return None;
        }
        if last.is_some_and(|last| at < last) {
            return complain(format!("the turn before comes at {last:?}"));
        }
        given.push(at);
        // So many in a row take so long, but for those that may come at once.
        let beyond = |place: usize| (given.len() - place).saturating_sub(limit.burst as usize) as u32;
        let crowd = (0..given.len()).find(|place| given[*place].plus(spacing * beyond(*place)) > at);
        crowd.and_then(|place| {
            complain(format!("turn {} of those since {}", given.len() - place, given[place]))
        })
    }
}
