//! Rate limits.

use async_trait::async_trait;
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, RateLimit, Turn};
use windlass_model::{TenantId, planted};

use super::MemoryStore;
use crate::{RateLimits, StoreError};

#[async_trait]
impl RateLimits for MemoryStore {
    async fn take_turn(&self, key: LimitKey, limit: RateLimit) -> Result<Turn, StoreError> {
        self.faults.before_turn()?;
        let shared = planted("limits_shared_by_tenants");
        let key = if shared { LimitKey { tenant: TenantId::DEFAULT, ..key } } else { key };
        self.write_always(|tables, now| {
            let mut state =
                tables.rate_limits.get(&key).copied().unwrap_or_else(|| LimitState::untouched(limit, now));
            let turn = state.take(limit, now);
            if !matches!(turn, Turn::Refused { .. }) {
                tables.rate_limits.insert(key, state);
            }
            Ok(turn)
        })
    }

    async fn list_rate_limits(
        &self,
        tenant: TenantId,
        after: Option<(Limited, String)>,
        limit: u32,
    ) -> Result<Vec<(LimitKey, LimitState)>, StoreError> {
        let after = after.as_ref().map(|(kind, name)| (kind.as_str(), name.as_str()));
        self.read(|tables, _| {
            let mut all: Vec<_> = (tables.rate_limits.iter())
                .filter(|(key, _)| key.tenant == tenant && Some(place(key)) > after)
                .map(|(key, state)| (key.clone(), *state))
                .collect();
            all.sort_by(|(a, _), (b, _)| place(a).cmp(&place(b)));
            all.truncate(limit as usize);
            Ok(all)
        })
    }

    async fn reset_rate_limit(&self, key: LimitKey) -> Result<bool, StoreError> {
        self.write_always(|tables, _| Ok(tables.rate_limits.remove(&key).is_some()))
    }
}

fn place(key: &LimitKey) -> (&str, &str) {
    (key.kind.as_str(), &key.name)
}
