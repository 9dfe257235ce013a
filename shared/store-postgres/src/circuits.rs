//! Circuit breakers.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use windlass_model::circuit::{Admission, Circuit, CircuitKey, CircuitStep, Guarded};
use windlass_model::{TenantId, Timestamp};
use windlass_store::{Circuits, StoreError};

use crate::fault::Fault;
use crate::types::{At, int4};
use crate::{PostgresStore, query, rows};

#[async_trait]
impl Circuits for PostgresStore {
    async fn look_at_circuit(&self, key: &CircuitKey) -> Result<Admission, StoreError> {
        let key = key.clone();
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let found = find(db, &key).await?;
                    Ok(found.map_or(Admission::Pass, |(circuit, now)| circuit.look(now)))
                })
            })
            .await
    }

    async fn step_circuit(&self, key: CircuitKey, step: CircuitStep) -> Result<Admission, StoreError> {
        let stepped = self
            .lookups
            .run_whole(move |db| Box::pin(async move { step_circuit(db, &key, &step).await }))
            .await;
        stepped.map_err(|error| Fault::Write(error).into_store())
    }

    async fn list_circuits(
        &self,
        tenant: TenantId,
        after: Option<(Guarded, String)>,
        limit: u32,
    ) -> Result<Vec<(CircuitKey, Circuit)>, StoreError> {
        self.searches
            .find(move |db| {
                Box::pin(async move {
                    let (kind, name) = after.as_ref().map_or(("", ""), |(kind, name)| (kind.as_str(), name));
                    let query = sqlx::query(query!("list_circuits")).bind(tenant.0).bind(kind).bind(name);
                    let found = query.bind(i64::from(limit)).fetch_all(db).await?;
                    rows::all(&found, |row| rows::circuit(row, tenant))
                })
            })
            .await
    }

    async fn count_open_circuits(&self) -> Result<u64, StoreError> {
        self.lookups
            .ask(|db| {
                Box::pin(async move {
                    let row = sqlx::query(query!("count_open_circuits")).fetch_one(db).await?;
                    Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
                })
            })
            .await
    }
}

async fn step_circuit(
    db: &mut PgConnection,
    key: &CircuitKey,
    step: &CircuitStep,
) -> Result<Admission, Fault> {
    // One that is not there yet has no row to lock.
    let lock = sqlx::query(query!("put_workflow.lock")).bind(&key.name).bind(i64::from(key.tenant.0));
    lock.execute(&mut *db).await?;
    let now: Timestamp = sqlx::query(query!("now")).fetch_one(&mut *db).await?.try_get::<At, _>(0)?.into();
    let before = find(db, key).await?.map(|(circuit, _)| circuit);
    let mut circuit = before.clone().unwrap_or_else(|| Circuit::closed(now));
    let admission = circuit.step(step, now);
    if before.as_ref() != Some(&circuit) {
        sqlx::query(query!("step_circuit"))
            .bind(key.tenant.0)
            .bind(key.kind.as_str())
            .bind(&key.name)
            .bind(circuit.state.as_str())
            .bind(int4(circuit.failures))
            .bind(At(circuit.window_ends_at))
            .bind(circuit.probe_at.map(At))
            .bind(At(circuit.since))
            .execute(db)
            .await?;
    }
    Ok(admission)
}

/// The circuit, and the time at which it was read.
async fn find(db: &mut PgConnection, key: &CircuitKey) -> Result<Option<(Circuit, Timestamp)>, Fault> {
    let query = sqlx::query(query!("find_circuit")).bind(key.tenant.0).bind(key.kind.as_str());
    let found = query.bind(&key.name).fetch_optional(db).await?;
    let read = |row: &_| -> Result<_, Fault> {
        let (_, circuit) = rows::circuit(row, key.tenant)?;
        Ok((circuit, row.try_get::<At, _>("now")?.into()))
    };
    found.as_ref().map(read).transpose()
}
