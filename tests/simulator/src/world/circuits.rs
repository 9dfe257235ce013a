//! Circuits as they must stand, counted beside the database by what was told to it.

use std::collections::BTreeMap;

use windlass_model::Timestamp;
use windlass_model::circuit::{Admission, CircuitKey, CircuitStep, Guarded};

use crate::reach::Reach;

#[derive(Default)]
pub(super) struct Circuits(BTreeMap<CircuitKey, Known>);

#[derive(Default)]
struct Known {
    /// Since it was closed. Windows are longer than any schedule.
    failures: u32,
    /// None while it is closed.
    shut_until: Option<Timestamp>,
}

impl Circuits {
    /// What is wrong about the answer that a call got; nothing, mostly.
    pub(super) fn asked(
        &self,
        key: &CircuitKey,
        answer: Admission,
        now: Timestamp,
        reach: &Reach,
    ) -> Option<String> {
        let shut_until = self.0.get(key).and_then(|known| known.shut_until);
        let is_right = match answer {
            Admission::Pass => shut_until.is_none(),
            Admission::Probe { .. } => shut_until.is_some_and(|until| until <= now),
            Admission::Refused { .. } => {
                let is_host = key.kind == Guarded::Host;
                reach.hit(if is_host { "circuit_of_a_host_refused" } else { "circuit_refused" });
                shut_until.is_some_and(|until| until > now)
            }
        };
        let name = &key.name;
        (!is_right)
            .then(|| format!("I31: at {now} a call of {name} got {answer:?}, shut until {shut_until:?}"))
    }

    pub(super) fn told(
        &mut self,
        key: CircuitKey,
        step: &CircuitStep,
        answer: Admission,
        now: Timestamp,
        reach: &Reach,
    ) {
        let is_host = key.kind == Guarded::Host;
        let known = self.0.entry(key).or_default();
        match step {
            CircuitStep::Ask { .. } => {
                if let Admission::Probe { until } = answer {
                    reach.hit("circuit_tried");
                    known.shut_until = Some(until);
                }
            }
            CircuitStep::Failed { spec, tried_until } => {
                known.failures += 1;
                let opens = known.shut_until.is_none() && known.failures >= spec.failures;
                // Who tried, and whose turn has passed to another, is one of many.
                let has_its_turn = tried_until.is_some() && known.shut_until == *tried_until;
                if tried_until.is_some() && !has_its_turn {
                    reach.hit("circuit_turn_had_passed");
                }
                if opens || has_its_turn {
                    reach.hit(if is_host { "circuit_of_a_host_opened" } else { "circuit_opened" });
                    known.shut_until = Some(now.plus(spec.cool_down));
                }
            }
            CircuitStep::Healed => {
                reach.hit("circuit_healed");
                *known = Known::default();
            }
            CircuitStep::GaveUp { until } => {
                if known.shut_until == Some(*until) {
                    reach.hit(if is_host { "circuit_of_a_host_given_back" } else { "circuit_given_back" });
                    known.shut_until = Some(now);
                }
            }
        }
    }
}
