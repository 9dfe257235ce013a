//! Circuit breakers: when a tool, an agent or a host is in trouble, calls of it are refused for a while instead of made.

use std::time::Duration;

use crate::callee::CalleeKind;
use crate::time::SPAN_MAX;
use crate::{StepError, TenantId, Timestamp, planted};

/// When calls are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitSpec {
    /// So many failures within the window open it.
    pub failures: u32,
    pub window: Duration,
    /// How long it stays open before one call may try.
    pub cool_down: Duration,
    /// Patterns of errors that count, as in [`StepError::matches`].
    pub errors: Vec<String>,
}

/// Errors that say that the other side, or the way there, is in trouble.
pub const TROUBLE: &[&str] = &[
    "timeout",
    "http.connect",
    "http.tls",
    "http.response",
    "http.429",
    "http.5xx",
    "agent.offline",
    "agent.overloaded",
];

/// What a circuit stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarded {
    /// Calls of a tool or an agent.
    Calls(CalleeKind),
    /// Requests to a host that nodes send by themselves.
    Host,
}

/// Whose circuit: one for each tool, each agent and each host of a tenant, whichever definition calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CircuitKey {
    pub tenant: TenantId,
    pub kind: Guarded,
    pub name: String,
}

/// Where a circuit stands. One that nothing is known of is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    pub state: CircuitState,
    /// Failures since the window began.
    pub failures: u32,
    pub window_ends_at: Timestamp,
    /// When the next call may try; none while it is closed.
    pub probe_at: Option<Timestamp>,
    /// Since when the state is what it is.
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls are made.
    Closed,
    /// Calls are refused.
    Open,
    /// One call tries; the others are refused.
    HalfOpen,
}

/// What happens to a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CircuitStep {
    /// A call wants to be made. Should it be the one that tries, no other may for so long.
    Ask { probe_for: Duration },
    /// A call has failed by an error that counts. If it was the one that was to try: until when.
    Failed { spec: CircuitSpec, tried_until: Option<Timestamp> },
    /// The call that tried has reached the other side.
    Healed,
    /// The call that was to try until then was called off, and has found out nothing.
    GaveUp { until: Timestamp },
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// It may, and how it goes decides about the circuit. From that time on another one may try: of one that only looks,
    /// since when.
    Probe {
        until: Timestamp,
    },
    Refused {
        retry_after: Duration,
    },
}

impl CircuitSpec {
    pub fn counts(&self, error: &StepError) -> bool {
        self.errors.iter().any(|pattern| error.matches(pattern))
    }
}

impl Guarded {
    pub const ALL: [Self; 3] = [Self::Calls(CalleeKind::Tool), Self::Calls(CalleeKind::Agent), Self::Host];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls(callee) => callee.as_str(),
            Self::Host => "host",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl CircuitState {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl Circuit {
    pub fn closed(now: Timestamp) -> Self {
        Self { state: CircuitState::Closed, failures: 0, window_ends_at: now, probe_at: None, since: now }
    }

    /// Whether the next call may try later than any definition can have asked for.
    pub fn is_beyond_measure(&self, now: Timestamp) -> bool {
        self.probe_at.is_some_and(|at| at > now.plus(SPAN_MAX))
    }

    /// Whether a call may be made now, as far as nobody has to be told.
    pub fn look(&self, now: Timestamp) -> Admission {
        match self.probe_at {
            None => Admission::Pass,
            Some(at) if at > now && !planted("open_circuit_lets_pass") => {
                Admission::Refused { retry_after: now.until(at) }
            }
            Some(until) => Admission::Probe { until },
        }
    }

    /// Takes a step, and says whether the call that asked may be made.
    pub fn step(&mut self, step: &CircuitStep, now: Timestamp) -> Admission {
        match step {
            CircuitStep::Ask { probe_for } => {
                let admission = self.look(now);
                if !matches!(admission, Admission::Probe { .. }) {
                    return admission;
                }
                // Whoever tries may die of it: then the next one may.
                let until = now.plus(*probe_for);
                if !planted("all_try_the_circuit") {
                    self.become_state(CircuitState::HalfOpen, Some(until), now);
                }
                return Admission::Probe { until };
            }
            CircuitStep::Failed { spec, tried_until } => self.fail(spec, *tried_until, now),
            CircuitStep::Healed => {
                self.failures = 0;
                self.become_state(CircuitState::Closed, None, now);
            }
            // Unless another one tries by now.
            CircuitStep::GaveUp { until }
                if self.probe_at == Some(*until) && !planted("called_off_keeps_its_turn") =>
            {
                self.become_state(CircuitState::Open, Some(now), now);
            }
            CircuitStep::GaveUp { .. } => {}
        }
        Admission::Pass
    }

    fn fail(&mut self, spec: &CircuitSpec, tried_until: Option<Timestamp>, now: Timestamp) {
        let is_closed = self.state == CircuitState::Closed;
        if is_closed {
            if self.window_ends_at <= now {
                (self.failures, self.window_ends_at) = (0, now.plus(spec.window));
            }
            self.failures = self.failures.saturating_add(1);
        }
        // What was called before it opened, and fails late, says nothing new.
        let counts = !planted("circuit_never_opens");
        // Neither does what was to try, once another one tries, or has got through.
        let has_its_turn = self.probe_at == tried_until || planted("late_failure_opens_it_again");
        if tried_until.is_some() && has_its_turn || is_closed && self.failures >= spec.failures && counts {
            self.become_state(CircuitState::Open, Some(now.plus(spec.cool_down)), now);
        }
    }

    fn become_state(&mut self, state: CircuitState, probe_at: Option<Timestamp>, now: Timestamp) {
        if self.state != state {
            self.since = now;
        }
        (self.state, self.probe_at) = (state, probe_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spec() -> CircuitSpec {
        let errors = TROUBLE.iter().map(|it| (*it).to_owned()).collect();
        CircuitSpec { failures: 3, window: 10 * SECOND, cool_down: 5 * SECOND, errors }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).plus(Duration::from_secs(seconds))
    }

    fn fail(circuit: &mut Circuit, tried_until: Option<Timestamp>, seconds: u64) {
        circuit.step(&CircuitStep::Failed { spec: spec(), tried_until }, at(seconds));
    }

    fn ask(circuit: &mut Circuit, seconds: u64) -> Admission {
        circuit.step(&CircuitStep::Ask { probe_for: 5 * SECOND }, at(seconds))
    }

    fn open() -> Circuit {
        let mut circuit = Circuit::closed(at(0));
        (0..3).for_each(|second| fail(&mut circuit, None, second));
        circuit
    }

    #[test]
    fn failures_within_the_window_open_it() {
        let mut circuit = open();
        assert_eq!((circuit.state, circuit.since), (CircuitState::Open, at(2)));
        assert_eq!(ask(&mut circuit, 3), Admission::Refused { retry_after: 4 * SECOND });
    }

    #[test]
    fn failures_that_are_far_apart_do_not() {
        let mut circuit = Circuit::closed(at(0));
        for second in [0, 9, 10, 19, 20, 30] {
            fail(&mut circuit, None, second);
        }
        assert_eq!(circuit.state, CircuitState::Closed);
        assert_eq!(ask(&mut circuit, 30), Admission::Pass);
    }

    #[test]
    fn one_that_tried_and_was_called_off_lets_the_next_one_try() {
        let mut circuit = open();
        let Admission::Probe { until } = ask(&mut circuit, 7) else { panic!("it is time") };
        assert!(matches!(ask(&mut circuit, 8), Admission::Refused { .. }));
        circuit.step(&CircuitStep::GaveUp { until }, at(9));
        assert_eq!((circuit.state, circuit.probe_at), (CircuitState::Open, Some(at(9))));
        assert_eq!(ask(&mut circuit, 9), Admission::Probe { until: at(14) });
        // Who gives up late takes nothing from the one that tries by then.
        circuit.step(&CircuitStep::GaveUp { until }, at(10));
        assert!(matches!(ask(&mut circuit, 10), Admission::Refused { .. }));
        circuit.step(&CircuitStep::Healed, at(11));
        circuit.step(&CircuitStep::GaveUp { until: at(14) }, at(12));
        assert_eq!(circuit.state, CircuitState::Closed);
    }

    #[test]
    fn after_the_cool_down_one_call_tries_and_decides() {
        let mut circuit = open();
        assert_eq!(ask(&mut circuit, 7), Admission::Probe { until: at(12) });
        assert_eq!(circuit.state, CircuitState::HalfOpen);
        assert!(matches!(ask(&mut circuit, 8), Admission::Refused { .. }));
        let mut failed = circuit.clone();
        fail(&mut failed, Some(at(12)), 9);
        assert_eq!((failed.state, failed.probe_at), (CircuitState::Open, Some(at(14))));
        circuit.step(&CircuitStep::Healed, at(9));
        assert_eq!(
            (circuit.state, circuit.failures, ask(&mut circuit, 9)),
            (CircuitState::Closed, 0, Admission::Pass)
        );
    }

    #[test]
    fn one_that_tried_and_died_is_followed_by_another() {
        let mut circuit = open();
        assert_eq!(ask(&mut circuit, 7), Admission::Probe { until: at(12) });
        assert_eq!(ask(&mut circuit, 12), Admission::Probe { until: at(17) });
    }

    #[test]
    fn one_that_tried_and_failed_late_says_nothing_once_another_one_tries() {
        let mut circuit = open();
        let Admission::Probe { until } = ask(&mut circuit, 7) else { panic!("it is time") };
        let mut alone = circuit.clone();
        fail(&mut alone, Some(until), 13);
        assert_eq!((alone.state, alone.probe_at), (CircuitState::Open, Some(at(18))), "nobody else tries");
        assert_eq!(ask(&mut circuit, 12), Admission::Probe { until: at(17) });
        fail(&mut circuit, Some(until), 13);
        assert_eq!((circuit.state, circuit.probe_at), (CircuitState::HalfOpen, Some(at(17))));
        circuit.step(&CircuitStep::Healed, at(14));
        fail(&mut circuit, Some(until), 15);
        assert_eq!((circuit.state, circuit.failures), (CircuitState::Closed, 1), "it counts as any other");
    }

    #[test]
    fn calls_that_fail_late_keep_it_no_longer_open() {
        let mut circuit = open();
        fail(&mut circuit, None, 6);
        assert_eq!(circuit.probe_at, Some(at(7)));
    }

    #[test]
    fn what_the_other_side_refuses_is_no_trouble() {
        let counts = |kind: &str| spec().counts(&StepError::new(kind, ""));
        assert!(counts("http.503") && counts("timeout") && counts("agent.overloaded"));
        assert!(!counts("http.404") && !counts("tool.a.declined") && !counts("schema.input"));
    }
}
