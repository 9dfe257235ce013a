//! Rate limits.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, named_params};
use windlass_model::TenantId;
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, OnLimit, RateLimit, Turn};
use windlass_store::{RateLimits, StoreError};

use crate::{SqliteStore, query, rows};

#[async_trait]
impl RateLimits for SqliteStore {
    async fn take_turn(&self, key: LimitKey, limit: RateLimit) -> Result<Turn, StoreError> {
        self.write_always(move |db, now| {
            let parameters =
                named_params! { ":tenant": key.tenant.0, ":kind": key.kind.as_str(), ":name": key.name };
            let found = db
                .prepare_cached(query!("find_rate_limit"))?
                .query_row(parameters, |row| rows::rate_limit(row, key.tenant))
                .optional()?;
            let mut state = found.map_or_else(|| LimitState::untouched(limit, now), |(_, state)| state);
            let turn = state.take(limit, now);
            if !matches!(turn, Turn::Refused { .. }) {
                db.prepare_cached(query!("take_turn"))?.execute(named_params! {
                    ":tenant": key.tenant.0,
                    ":kind": key.kind.as_str(),
                    ":name": key.name,
                    ":taken_until": state.taken_until.0,
                    ":turns": limit.turns,
                    ":per_ms": i64::try_from(limit.per.as_millis()).unwrap_or(i64::MAX),
                    ":burst": limit.burst,
                    ":rejects": limit.on_limit == OnLimit::Reject,
                })?;
            }
            Ok(turn)
        })
        .await
    }

    async fn list_rate_limits(
        &self,
        tenant: TenantId,
        after: Option<(Limited, String)>,
        limit: u32,
    ) -> Result<Vec<(LimitKey, LimitState)>, StoreError> {
        self.read(move |db, _| {
            let (kind, name) = after.as_ref().map_or(("", ""), |(kind, name)| (kind.as_str(), name));
            let mut statement = db.prepare_cached(query!("list_rate_limits"))?;
            let rows = statement.query_map(
                named_params! { ":tenant": tenant.0, ":kind": kind, ":name": name, ":limit": limit },
                |row| rows::rate_limit(row, tenant),
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn reset_rate_limit(&self, key: LimitKey) -> Result<bool, StoreError> {
        self.write_always(move |db, _| {
            let parameters =
                named_params! { ":tenant": key.tenant.0, ":kind": key.kind.as_str(), ":name": key.name };
            Ok(db.prepare_cached(query!("reset_rate_limit"))?.execute(parameters)? > 0)
        })
        .await
    }
}
