//! Asks for a turn under a rate limit: before a call, and before the first step of a run.

use std::sync::Arc;

use windlass_model::callee::Callee;
use windlass_model::rate_limit::{self, LimitKey, Limited, RateLimit, Turn};
use windlass_model::{Outcome, TenantId, planted};
use windlass_store::{StoreError, point};

use crate::engine::EngineParts;
use crate::patience::patiently;

/// The limit of one call. Nodes that call nothing with a limit have none, and pay nothing.
pub(crate) struct CallLimit {
    key: LimitKey,
    limit: RateLimit,
}

impl CallLimit {
    /// None also when the turn was taken before, and has come.
    pub(crate) fn of(tenant: TenantId, callee: Option<&Arc<Callee>>, has_turn: bool) -> Option<Self> {
        let callee = callee.filter(|_| !has_turn)?;
        let key = LimitKey { tenant, kind: Limited::Calls(callee.kind), name: callee.name.clone() };
        callee.rate_limit.map(|limit| Self { key, limit })
    }

    /// None when the call may be made now; what has become of the attempt otherwise.
    pub(crate) async fn hold_back(&self, parts: &EngineParts) -> Option<Outcome> {
        let turn = match take(parts, &self.key, self.limit).await {
            Ok(turn) => turn,
            Err(error) => {
                let error = windlass_model::StepError::new("internal", error.to_string());
                return Some(Outcome::Failed { error, artifacts: Vec::new() });
            }
        };
        point("turn.taken");
        match turn {
            Turn::Now => None,
            Turn::At(_) if planted("call_does_not_wait_for_its_turn") => None,
            Turn::At(until) => Some(Outcome::Deferred { until }),
            Turn::Refused { retry_after } => {
                let what = format!("the {} `{}` is called", self.key.kind.as_str(), self.key.name);
                let error = rate_limit::refused(&what, retry_after);
                Some(Outcome::Failed { error, artifacts: Vec::new() })
            }
        }
    }
}

/// Asks until the database answers: what is limited must not happen because nobody could be asked.
pub(crate) async fn take(parts: &EngineParts, key: &LimitKey, limit: RateLimit) -> Result<Turn, StoreError> {
    // Should one have been taken all the same, it is lost.
    let turn = patiently(|| parts.store.take_turn(key.clone(), limit)).await?;
    let answer = match turn {
        Turn::Now => "passed",
        Turn::At(_) => "deferred",
        Turn::Refused { .. } => "refused",
    };
    metrics::counter!("windlass_rate_limited_total", "kind" => key.kind.as_str(), "answer" => answer)
        .increment(1);
    Ok(turn)
}
