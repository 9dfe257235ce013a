//! What `windlass doctor --repair` does, and the accounts of it.

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};
use windlass_model::time::SPAN_MAX;
use windlass_model::{Digest, TenantId};
use windlass_store::stored::StoredEvent;
use windlass_store::{Account, Mend, Rebuild, RepairRow, WriteError};

use crate::fault::Fault;
use crate::query;
use crate::types::{At, int4, span};

pub(crate) async fn mend(db: &mut PgConnection, mend: &Mend, account: &Account) -> Result<(), Fault> {
    let changed = match mend {
        Mend::RemoveOrphans { run_id } => {
            let row = sqlx::query(query!("mend.orphans")).bind(run_id.0).fetch_one(&mut *db).await?;
            u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0)
        }
        Mend::RemoveBlob { tenant, digest } => remove_blob(db, *tenant, digest).await?,
        Mend::SendAgain { message } => {
            sqlx::query(query!("mend.message")).bind(message).execute(&mut *db).await?.rows_affected()
        }
        Mend::FreePlace { run_id } => {
            sqlx::query(query!("mend.place")).bind(run_id.0).execute(&mut *db).await?.rows_affected()
        }
        Mend::TryCircuit { key } => {
            let query = sqlx::query(query!("mend.circuit")).bind(key.tenant.0).bind(key.kind.as_str());
            query.bind(&key.name).bind(span(SPAN_MAX)).execute(&mut *db).await?.rows_affected()
        }
    };
    if changed == 0 {
        return Err(WriteError::Moved.into());
    }
    keep(db, account).await
}

async fn remove_blob(db: &mut PgConnection, tenant: TenantId, digest: &Digest) -> Result<u64, Fault> {
    db.execute(query!("mend.blob.lock")).await?;
    let query = sqlx::query(query!("mend.blob")).bind(tenant.0).bind(&digest.0);
    Ok(query.execute(db).await?.rows_affected())
}

pub(crate) async fn rebuild(
    db: &mut PgConnection,
    rebuild: &Rebuild,
    accounts: &[Account],
) -> Result<(), Fault> {
    let projection = &rebuild.projection;
    let changed = sqlx::query(query!("rebuild_run"))
        .bind(rebuild.run_id.0)
        .bind(rebuild.tenant.0)
        .bind(int4(rebuild.version.0))
        .bind(int4(rebuild.next_seq.0))
        .bind(int4(rebuild.epoch.0))
        .bind(rebuild.parent.map(|parent| parent.0))
        .bind(projection.status.as_str())
        .bind(projection.paused_reason.map(|reason| reason.as_str()))
        .bind(projection.wake_at.map(At))
        .bind(projection.started_at.map(At))
        .bind(projection.ended_at.map(At))
        .bind(projection.error.as_deref())
        .execute(&mut *db)
        .await?
        .rows_affected();
    if changed == 0 {
        return Err(WriteError::Moved.into());
    }
    // The one that says so is of the run as a whole, and of nobody's epoch.
    if let Some(event) = rebuild.event.as_ref().map(StoredEvent::from) {
        sqlx::query(query!("rebuild_run.event"))
            .bind(rebuild.run_id.0)
            .bind(At(event.at))
            .bind(int4(event.seq.0))
            .bind(event.code)
            .bind(event.actor)
            .bind(event.data)
            .execute(&mut *db)
            .await?;
    }
    sqlx::query(query!("rebuild_run.snapshot")).bind(rebuild.run_id.0).execute(&mut *db).await?;
    if !rebuild.untold.is_empty() {
        let children: Vec<_> = rebuild.untold.iter().map(|child| child.0).collect();
        let query = sqlx::query(query!("rebuild_run.untold")).bind(children).bind(rebuild.run_id.0);
        query.execute(&mut *db).await?;
    }
    write_inbox(db, rebuild).await?;
    for account in accounts {
        keep(db, account).await?;
    }
    Ok(())
}

async fn write_inbox(db: &mut PgConnection, rebuild: &Rebuild) -> Result<(), Fault> {
    sqlx::query(query!("rebuild_run.approvals")).bind(rebuild.run_id.0).execute(&mut *db).await?;
    for gate in &rebuild.approvals {
        sqlx::query(query!("rebuild_run.approval"))
            .bind(rebuild.run_id.0)
            .bind(int4(gate.seq.0))
            .bind(rebuild.tenant.0)
            .bind(&gate.node)
            .bind(i32::from(gate.attempt))
            .bind(At(gate.requested_at))
            .bind(gate.expires_at.map(At))
            .bind(gate.decided_at.map(At))
            .bind(gate.decision.map(|decision| decision.as_str()))
            .bind(&gate.decided_by)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

async fn keep(db: &mut PgConnection, Account { actor, damage }: &Account) -> Result<(), Fault> {
    sqlx::query(query!("mend.account"))
        .bind(actor.to_string())
        .bind(&damage.kind)
        .bind(&damage.subject)
        .bind(&damage.detail)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn list(db: &mut PgConnection, limit: u32) -> Result<Vec<RepairRow>, Fault> {
    let found = sqlx::query(query!("list_repairs")).bind(i64::from(limit)).fetch_all(db).await?;
    crate::rows::all(&found, |row| {
        Ok(RepairRow {
            at: row.try_get::<At, _>("at")?.into(),
            actor: row.try_get("actor")?,
            kind: row.try_get("kind")?,
            subject: row.try_get("subject")?,
            detail: row.try_get("detail")?,
        })
    })
}
