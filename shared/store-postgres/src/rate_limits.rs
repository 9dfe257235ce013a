//! Rate limits.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use windlass_model::rate_limit::{LimitKey, LimitState, Limited, OnLimit, RateLimit, Turn};
use windlass_model::{TenantId, Timestamp};
use windlass_store::{RateLimits, StoreError};

use crate::fault::Fault;
use crate::types::{At, int4};
use crate::{PostgresStore, query, rows};

#[async_trait]
impl RateLimits for PostgresStore {
    async fn take_turn(&self, key: LimitKey, limit: RateLimit) -> Result<Turn, StoreError> {
        let taken =
            self.lookups.run_whole(move |db| Box::pin(async move { take_turn(db, &key, limit).await })).await;
        taken.map_err(|error| Fault::Write(error).into_store())
    }

    async fn list_rate_limits(
        &self,
        tenant: TenantId,
        after: Option<(Limited, String)>,
        limit: u32,
    ) -> Result<Vec<(LimitKey, LimitState)>, StoreError> {
        self.searches
            .find(move |db| {
                Box::pin(async move {
                    let (kind, name) = after.as_ref().map_or(("", ""), |(kind, name)| (kind.as_str(), name));
                    let query = sqlx::query(query!("list_rate_limits")).bind(tenant.0).bind(kind).bind(name);
                    let found = query.bind(i64::from(limit)).fetch_all(db).await?;
                    rows::all(&found, |row| rows::rate_limit(row, tenant))
                })
            })
            .await
    }

    async fn reset_rate_limit(&self, key: LimitKey) -> Result<bool, StoreError> {
        let reset = self
            .lookups
            .run_whole(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("reset_rate_limit")).bind(key.tenant.0);
                    let reset = query.bind(key.kind.as_str()).bind(&key.name).execute(db).await?;
                    Ok(reset.rows_affected() > 0)
                })
            })
            .await;
        reset.map_err(|error| Fault::Write(error).into_store())
    }
}

async fn take_turn(db: &mut PgConnection, key: &LimitKey, limit: RateLimit) -> Result<Turn, Fault> {
    // One that is not there yet has no row to lock.
    let lock = sqlx::query(query!("put_workflow.lock")).bind(&key.name).bind(i64::from(key.tenant.0));
    lock.execute(&mut *db).await?;
    let now: Timestamp = sqlx::query(query!("now")).fetch_one(&mut *db).await?.try_get::<At, _>(0)?.into();
    let query = sqlx::query(query!("find_rate_limit")).bind(key.tenant.0).bind(key.kind.as_str());
    let found = query.bind(&key.name).fetch_optional(&mut *db).await?;
    let found = found.as_ref().map(|row| rows::rate_limit(row, key.tenant)).transpose()?;
    let mut state = found.map_or_else(|| LimitState::untouched(limit, now), |(_, state)| state);
    let turn = state.take(limit, now);
    if !matches!(turn, Turn::Refused { .. }) {
        sqlx::query(query!("take_turn"))
            .bind(key.tenant.0)
            .bind(key.kind.as_str())
            .bind(&key.name)
            .bind(At(state.taken_until))
            .bind(int4(limit.turns))
            .bind(i64::try_from(limit.per.as_millis()).unwrap_or(i64::MAX))
            .bind(int4(limit.burst))
            .bind(limit.on_limit == OnLimit::Reject)
            .execute(db)
            .await?;
    }
    Ok(turn)
}
