//! Messages on their way out of the database.

use async_trait::async_trait;
use rusqlite::{Connection, named_params};
use windlass_model::{EventSeq, TenantId, Timestamp};
use windlass_store::{Outbox, OutboxMessage, OutboxRow, OutboxSettlement, StoreError};

use crate::fault::Fault;
use crate::rows::Id;
use crate::{SqliteStore, query};

#[async_trait]
impl Outbox for SqliteStore {
    async fn read_outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.read(move |db, now| read(db, limit, now)).await
    }

    async fn settle_outbox(&self, settlements: Vec<OutboxSettlement>) -> Result<(), StoreError> {
        self.write_always(move |db, now| {
            for settlement in &settlements {
                settle(db, settlement, now)?;
            }
            Ok(())
        })
        .await
    }
}

fn read(db: &Connection, limit: u32, now: Timestamp) -> Result<Vec<OutboxRow>, Fault> {
    let mut statement = db.prepare_cached(query!("read_outbox"))?;
    let mut found = statement.query(named_params! { ":now": now.0, ":limit": limit })?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let id = row.get(0)?;
        let body = serde_json::from_str(row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?)
            .map_err(|error| Fault::damaged(format!("message {id} of the outbox: {error}")))?;
        rows.push(OutboxRow {
            id,
            tenant: TenantId(row.get(1)?),
            run_id: row.get::<_, Id>(2)?.into(),
            message: OutboxMessage { seq: EventSeq(row.get(3)?), topic: row.get(4)?, body },
            created_at: Timestamp(row.get(6)?),
            attempts: row.get(7)?,
        });
    }
    Ok(rows)
}

fn settle(db: &Connection, settlement: &OutboxSettlement, now: Timestamp) -> rusqlite::Result<()> {
    match settlement {
        OutboxSettlement::Delivered { id } => {
            db.prepare_cached(query!("settle_outbox.delivered"))?.execute(named_params! { ":id": id })
        }
        OutboxSettlement::Failed { id, error, retry_after } => db
            .prepare_cached(query!("settle_outbox.failed"))?
            .execute(named_params! { ":id": id, ":error": error, ":due_at": now.plus(*retry_after).0 }),
        OutboxSettlement::Dead { id, error } => db
            .prepare_cached(query!("settle_outbox.dead"))?
            .execute(named_params! { ":id": id, ":error": error, ":now": now.0 }),
    }
    .map(drop)
}
