//! Messages on their way out of the database.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use windlass_model::{EventSeq, RunId, TenantId};
use windlass_store::{Outbox, OutboxMessage, OutboxRow, OutboxSettlement, StoreError};

use crate::fault::Fault;
use crate::types::{At, span};
use crate::{PostgresStore, query, rows};

#[async_trait]
impl Outbox for PostgresStore {
    async fn read_outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.searches
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("read_outbox")).bind(i64::from(limit));
                    rows::all(&query.fetch_all(db).await?, message)
                })
            })
            .await
    }

    async fn take_outbox(&self, limit: u32, lease: Duration) -> Result<Vec<OutboxRow>, StoreError> {
        self.lookups
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("take_outbox")).bind(i64::from(limit)).bind(span(lease));
                    rows::all(&query.fetch_all(db).await?, message)
                })
            })
            .await
    }

    async fn settle_outbox(&self, settlements: Vec<OutboxSettlement>) -> Result<(), StoreError> {
        let settled =
            self.searches.run_whole(move |db| Box::pin(async move { settle(db, &settlements).await })).await;
        settled.map_err(|error| Fault::Write(error).into_store())
    }
}

fn message(row: &PgRow) -> Result<OutboxRow, Fault> {
    let id: i64 = row.try_get("id")?;
    let count = |column| -> Result<u32, Fault> {
        let number: i32 = row.try_get(column)?;
        u32::try_from(number).map_err(|_| Fault::damaged(format!("{column} of message {id} is {number}")))
    };
    let body: &str = row.try_get("body")?;
    let body = serde_json::from_str(body)
        .map_err(|error| Fault::damaged(format!("message {id} of the outbox: {error}")))?;
    Ok(OutboxRow {
        id,
        tenant: TenantId(row.try_get("tenant")?),
        run_id: RunId(row.try_get("run_id")?),
        message: OutboxMessage { seq: EventSeq(count("seq")?), topic: row.try_get("topic")?, body },
        created_at: row.try_get::<At, _>("created_at")?.into(),
        attempts: count("attempts")?,
    })
}

async fn settle(db: &mut PgConnection, settlements: &[OutboxSettlement]) -> Result<(), Fault> {
    let mut delivered = Vec::new();
    for settlement in settlements {
        let query = match settlement {
            OutboxSettlement::Delivered { id } => {
                delivered.push(*id);
                continue;
            }
            OutboxSettlement::Failed { id, error, retry_after } => {
                sqlx::query(query!("settle_outbox.failed")).bind(id).bind(span(*retry_after)).bind(error)
            }
            OutboxSettlement::Dead { id, error } => {
                sqlx::query(query!("settle_outbox.dead")).bind(id).bind(error)
            }
        };
        query.execute(&mut *db).await?;
    }
    if !delivered.is_empty() {
        sqlx::query(query!("settle_outbox.delivered")).bind(delivered).execute(db).await?;
    }
    Ok(())
}
