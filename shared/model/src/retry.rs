//! When the next attempt starts.

use std::time::Duration;

use crate::{Attempt, RunId, StepError};

/// How often, for which errors, and with which pauses a step is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included. Attempts of unknown outcome don't count.
    pub max_attempts: u16,
    /// Error patterns worth another attempt; empty means all but [`NEVER_RETRIED`].
    pub errors: Vec<String>,
    pub backoff: Backoff,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    pub growth: Growth,
    pub initial: Duration,
    pub max: Duration,
    pub jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    Fixed,
    Linear,
    Exponential { factor: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    None,
    /// Anywhere between zero and the whole pause.
    Full,
    /// Anywhere between half the pause and the whole.
    Equal,
}

/// The upper bound of `max_attempts` in a definition.
pub const ATTEMPTS_MAX: u16 = 1_000;

/// Failures that another attempt cannot mend, unless the definition names them.
pub const NEVER_RETRIED: &[&str] = &[
    "canceled",
    "rejected",
    "expression",
    "schema.*",
    "limit.*",
    "egress_blocked",
    "child.canceled",
    "workflow.*",
];

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 1, errors: Vec::new(), backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            growth: Growth::Exponential { factor: 2.0 },
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: Jitter::None,
        }
    }
}

impl RetryPolicy {
    /// The pause before the next attempt after `failures` definite failures, or none when it is over.
    ///
    /// Jitter is a function of the run, the step and the attempt: the same history always gives the
    /// same pause, and different runs spread out.
    pub fn pause_before_next(
        &self,
        run: RunId,
        step: &str,
        attempt: Attempt,
        failures: u16,
        error: &StepError,
    ) -> Option<Duration> {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| error.matches(pattern));
        let worth_it = if self.errors.is_empty() {
            !NEVER_RETRIED.iter().any(|pattern| error.matches(pattern))
        } else {
            named(&self.errors)
        };
        let has_more = failures < self.max_attempts || crate::planted("retries_without_end");
        (worth_it && has_more).then(|| self.backoff.pause(run, step, attempt, failures))
    }
}

impl Backoff {
    fn pause(&self, run: RunId, step: &str, attempt: Attempt, failures: u16) -> Duration {
        let nth = u32::from(failures.max(1));
        let grown = match self.growth {
            Growth::Fixed => self.initial.as_secs_f64(),
            Growth::Linear => self.initial.as_secs_f64() * f64::from(nth),
            Growth::Exponential { factor } => {
                self.initial.as_secs_f64() * factor.powi(i32::try_from(nth - 1).unwrap_or(i32::MAX))
            }
        };
        // `min` first: an exponential may well be infinite.
        let whole =
            if crate::planted("no_pause_between_attempts") { 0.0 } else { grown.min(self.max.as_secs_f64()) };
        let share = match self.jitter {
            Jitter::None => 1.0,
            Jitter::Full => dice(run, step, attempt),
            Jitter::Equal => 0.5 + dice(run, step, attempt) / 2.0,
        };
        Duration::from_secs_f64(whole * share)
    }
}

/// A number in 0..1 that depends on nothing but its arguments.
fn dice(run: RunId, step: &str, attempt: Attempt) -> f64 {
    let mut hash = blake3::Hasher::new();
    hash.update(run.0.as_bytes()).update(step.as_bytes()).update(&attempt.to_le_bytes());
    let bytes: [u8; 4] = hash.finalize().as_bytes()[..4].try_into().expect("four bytes of 32");
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(backoff: Backoff) -> Vec<u64> {
        let policy = RetryPolicy { max_attempts: 5, errors: Vec::new(), backoff };
        let error = StepError::new("http.503", "");
        (1..=5)
            .map_while(|n| policy.pause_before_next(RunId(uuid::Uuid::nil()), "a", n, n, &error))
            .map(|pause| u64::try_from(pause.as_millis()).unwrap())
            .collect()
    }

    #[test]
    fn pauses_grow_as_the_definition_says_and_stop_at_max_attempts() {
        let backoff = |growth| Backoff {
            growth,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(5),
            jitter: Jitter::None,
        };
        assert_eq!(pauses(backoff(Growth::Fixed)), [1000, 1000, 1000, 1000]);
        assert_eq!(pauses(backoff(Growth::Linear)), [1000, 2000, 3000, 4000]);
        assert_eq!(pauses(backoff(Growth::Exponential { factor: 2.0 })), [1000, 2000, 4000, 5000]);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_repeats_for_the_same_history() {
        let full = Backoff { jitter: Jitter::Full, growth: Growth::Fixed, ..Backoff::default() };
        let equal = Backoff { jitter: Jitter::Equal, growth: Growth::Fixed, ..Backoff::default() };
        assert!(pauses(full.clone()).iter().all(|ms| *ms <= 1000));
        assert!(pauses(equal).iter().all(|ms| (500..=1000).contains(ms)));
        assert_eq!(pauses(full.clone()), pauses(full));
    }

    #[test]
    fn an_error_that_cannot_mend_itself_is_retried_only_when_named() {
        let error = StepError::new("schema.output", "");
        let mut policy = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
        assert!(policy.pause_before_next(RunId(uuid::Uuid::nil()), "a", 1, 1, &error).is_none());
        policy.errors = vec!["schema.*".into()];
        assert!(policy.pause_before_next(RunId(uuid::Uuid::nil()), "a", 1, 1, &error).is_some());
    }
}
