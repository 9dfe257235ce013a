//! Asks before a call whether its circuit is closed, and tells afterwards how it went.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tracing::{info, warn};
use windlass_model::circuit::{Admission, CircuitKey, CircuitSpec, CircuitStep, Guarded};
use windlass_model::plan::Node;
use windlass_model::{Outcome, StepError, TenantId, Timestamp};
use windlass_store::Store;

/// A breaker must not break what it guards: when the database does not say in time, the call is made.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// With these nothing has left the worker, and nobody knows how the other side is.
const NOT_SENT: &[&str] = &["egress_blocked", "http.invalid_request", "schema.input"];

/// The breaker of one call. Nodes that call nothing with a breaker have none, and pay nothing.
pub(crate) struct Breaker {
    key: CircuitKey,
    spec: Arc<CircuitSpec>,
}

/// Until when the call is the one that tries; none when it is one of many.
pub(crate) type Try = Option<Timestamp>;

impl Breaker {
    /// The tool's or the agent's, or that of the host that the node calls. Without a host there is nothing to guard.
    pub(crate) fn of(tenant: TenantId, node: &Node, host: impl FnOnce() -> Option<String>) -> Option<Self> {
        let (kind, name, spec) = match (&node.callee, &node.circuit) {
            (Some(callee), _) => (Guarded::Calls(callee.kind), callee.name.clone(), callee.circuit.as_ref()?),
            (None, Some(spec)) => (Guarded::Host, host()?, spec),
            (None, None) => return None,
        };
        Some(Self { key: CircuitKey { tenant, kind, name }, spec: spec.clone() })
    }

    /// Whether the call that may be made is the one that tries.
    ///
    /// # Errors
    /// `circuit.open`: the call is not made.
    pub(crate) async fn admit(&self, store: &dyn Store) -> Result<Try, StepError> {
        match tokio::time::timeout(ASK_WITHIN, self.ask(store)).await.unwrap_or(Admission::Pass) {
            Admission::Pass => Ok(None),
            Admission::Probe { until } => Ok(Some(until)),
            Admission::Refused { retry_after } => {
                let (what, name) = (self.key.kind.as_str(), &self.key.name);
                metrics::counter!("windlass_circuit_refusals_total", "kind" => what).increment(1);
                let sentence = format!(
                    "the {what} `{name}` has failed too often; the next call may try in {retry_after:?}"
                );
                let details =
                    json!({ "retry_after_ms": u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX) });
                Err(StepError::new("circuit.open", sentence).with_details(details))
            }
        }
    }

    async fn ask(&self, store: &dyn Store) -> Admission {
        let looked = match store.look_at_circuit(&self.key).await {
            // It is time that one call tries. The others learn from the database that they are not the one.
            Ok(Admission::Probe { .. }) => {
                let ask = CircuitStep::Ask { probe_for: self.spec.cool_down };
                store.step_circuit(self.key.clone(), ask).await
            }
            looked => looked,
        };
        looked.unwrap_or_else(|error| {
            warn!(circuit = self.key.name, error = %error, "The circuit is not known; the call is made");
            Admission::Pass
        })
    }

    /// Only failures that count, and what became of the call that tried, are worth a write.
    pub(crate) async fn tell(&self, store: &dyn Store, tries: Try, outcome: &Outcome) {
        let Some(step) = self.news(tries, outcome) else { return };
        if tries.is_some() {
            info!(
                circuit = self.key.name,
                healed = step == CircuitStep::Healed,
                "A call has tried the circuit"
            );
        }
        match tokio::time::timeout(ASK_WITHIN, store.step_circuit(self.key.clone(), step)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                warn!(circuit = self.key.name, error = %error, "The circuit could not be told")
            }
            Err(_) => warn!(circuit = self.key.name, "The circuit could not be told in time"),
        }
    }

    fn news(&self, tries: Try, outcome: &Outcome) -> Option<CircuitStep> {
        match outcome {
            Outcome::Failed { error, .. } | Outcome::TimedOut { error } if self.spec.counts(error) => {
                let spec = CircuitSpec::clone(&self.spec);
                Some(CircuitStep::Failed { spec, tried_until: tries })
            }
            // Nobody knows: let the next one try.
            Outcome::Canceled => tries.map(|until| CircuitStep::GaveUp { until }),
            Outcome::Failed { error, .. } if NOT_SENT.contains(&error.kind.as_str()) => {
                tries.map(|until| CircuitStep::GaveUp { until })
            }
            _ => tries.map(|_| CircuitStep::Healed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: Timestamp = Timestamp(7);

    fn news(tries: Try, outcome: &Outcome) -> Option<CircuitStep> {
        let key = CircuitKey { tenant: TenantId::DEFAULT, kind: Guarded::Host, name: "a.example".into() };
        let errors = vec!["http.5xx".to_owned()];
        let spec = CircuitSpec { failures: 1, window: ASK_WITHIN, cool_down: ASK_WITHIN, errors };
        Breaker { key, spec: Arc::new(spec) }.news(tries, outcome)
    }

    fn failed(kind: &str) -> Outcome {
        Outcome::Failed { error: StepError::new(kind, ""), artifacts: Vec::new() }
    }

    #[test]
    fn only_what_reached_the_other_side_heals() {
        for reached in ["http.404", "http.redirect"] {
            assert_eq!(news(Some(UNTIL), &failed(reached)), Some(CircuitStep::Healed), "{reached}");
        }
        for unknown in NOT_SENT.iter().map(|kind| failed(kind)).chain([Outcome::Canceled]) {
            assert_eq!(
                news(Some(UNTIL), &unknown),
                Some(CircuitStep::GaveUp { until: UNTIL }),
                "{unknown:?}"
            );
        }
    }

    #[test]
    fn what_counts_is_told_by_everybody_and_the_rest_by_the_one_that_tries() {
        for tries in [None, Some(UNTIL)] {
            let told = news(tries, &failed("http.503"));
            assert!(matches!(told, Some(CircuitStep::Failed { tried_until, .. }) if tried_until == tries));
        }
        for outcome in [failed("http.404"), failed("egress_blocked"), Outcome::Canceled] {
            assert_eq!(news(None, &outcome), None, "{outcome:?}");
        }
    }
}
