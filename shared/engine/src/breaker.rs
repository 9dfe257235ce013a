//! Asks before a call whether its circuit is closed, and tells afterwards how it went.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tracing::{info, warn};
use windlass_model::callee::Callee;
use windlass_model::circuit::{Admission, CircuitKey, CircuitSpec, CircuitStep};
use windlass_model::{Outcome, StepError, TenantId};
use windlass_store::Store;

/// A breaker must not break what it guards: when the database does not say in time, the call is made.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// The breaker of one call. Nodes that call nothing with a breaker have none, and pay nothing.
pub(crate) struct Breaker {
    tenant: TenantId,
    callee: Arc<Callee>,
}

impl Breaker {
    pub(crate) fn of(tenant: TenantId, callee: Option<&Arc<Callee>>) -> Option<Self> {
        let callee = callee.filter(|callee| callee.circuit.is_some())?;
        Some(Self { tenant, callee: callee.clone() })
    }

    fn key(&self) -> CircuitKey {
        CircuitKey { tenant: self.tenant, kind: self.callee.kind, name: self.callee.name.clone() }
    }

    fn spec(&self) -> Option<&CircuitSpec> {
        self.callee.circuit.as_ref()
    }

    /// Whether the call that may be made is the one that tries.
    ///
    /// # Errors
    /// `circuit.open`: the call is not made.
    pub(crate) async fn admit(&self, store: &dyn Store) -> Result<bool, StepError> {
        match tokio::time::timeout(ASK_WITHIN, self.ask(store)).await.unwrap_or(Admission::Pass) {
            Admission::Pass => Ok(false),
            Admission::Probe => Ok(true),
            Admission::Refused { retry_after } => {
                metrics::counter!("windlass_circuit_refusals_total", "callee" => self.callee.name.clone())
                    .increment(1);
                let (what, name) = (self.callee.kind.as_str(), &self.callee.name);
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
        let looked = match store.look_at_circuit(&self.key()).await {
            // It is time that one call tries. The others learn from the database that they are not the one.
            Ok(Admission::Probe) => {
                let probe_for = self.spec().map_or(ASK_WITHIN, |spec| spec.cool_down);
                store.step_circuit(self.key(), CircuitStep::Ask { probe_for }).await
            }
            looked => looked,
        };
        looked.unwrap_or_else(|error| {
            warn!(callee = self.callee.name, error = %error, "The circuit is not known; the call is made");
            Admission::Pass
        })
    }

    /// Only failures that count, and what the call that tried has found, are worth a write.
    pub(crate) async fn tell(&self, store: &dyn Store, was_probe: bool, outcome: &Outcome) {
        let Some(spec) = self.spec() else { return };
        let step = match outcome {
            Outcome::Failed { error, .. } | Outcome::TimedOut { error } if spec.counts(error) => {
                CircuitStep::Failed { spec: spec.clone(), was_probe }
            }
            // Nobody knows.
            Outcome::Canceled => return,
            _ if was_probe => CircuitStep::Healed,
            _ => return,
        };
        if was_probe {
            info!(
                callee = self.callee.name,
                healed = step == CircuitStep::Healed,
                "A call has tried the circuit"
            );
        }
        match tokio::time::timeout(ASK_WITHIN, store.step_circuit(self.key(), step)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                warn!(callee = self.callee.name, error = %error, "The circuit could not be told")
            }
            Err(_) => warn!(callee = self.callee.name, "The circuit could not be told in time"),
        }
    }
}
