//! What `windlass doctor --repair` does, and the accounts of it.

use rusqlite::{Connection, named_params};
use windlass_model::time::SPAN_MAX;
use windlass_model::{Digest, RunId, TenantId, Timestamp};
use windlass_store::stored::StoredEvent;
use windlass_store::{Account, Mend, Rebuild, RepairRow, WriteError};

use crate::fault::Fault;
use crate::query;
use crate::rows::{self, Id};

/// Tables that hold rows around runs.
const AROUND_RUNS: [&str; 4] = ["run_labels", "run_snapshots", "approvals", "outbox"];

pub(crate) fn mend(db: &Connection, mend: &Mend, account: &Account, now: Timestamp) -> Result<(), Fault> {
    let changed = match mend {
        Mend::RemoveOrphans { run_id } => remove_orphans(db, *run_id)?,
        Mend::RemoveBlob { tenant, digest } => remove_blob(db, *tenant, digest)?,
        Mend::SendAgain { message } => {
            db.execute(query!("mend.message"), named_params! { ":id": message, ":now": now.0 })?
        }
        Mend::FreePlace { run_id } => {
            db.execute(query!("mend.place"), named_params! { ":run_id": Id::from(*run_id) })?
        }
        Mend::TryCircuit { key } => db.execute(
            query!("mend.circuit"),
            named_params! {
                ":tenant": key.tenant.0,
                ":kind": key.kind.as_str(),
                ":name": key.name,
                ":now": now.0,
                ":beyond": now.plus(SPAN_MAX).0,
            },
        )?,
    };
    if changed == 0 {
        return Err(WriteError::Moved.into());
    }
    keep(db, account, now)
}

fn remove_orphans(db: &Connection, run_id: RunId) -> Result<usize, Fault> {
    let mut removed = 0;
    for table in AROUND_RUNS {
        let sql = query!("mend.orphans").replace("from orphans", &format!("from {table}"));
        removed += db.execute(&sql, named_params! { ":run_id": Id::from(run_id) })?;
    }
    Ok(removed)
}

fn remove_blob(db: &Connection, tenant: TenantId, digest: &Digest) -> Result<usize, Fault> {
    let parameters = named_params! { ":tenant": tenant.0, ":digest": digest.0 };
    Ok(db.execute(query!("mend.blob"), parameters)?)
}

pub(crate) fn rebuild(
    db: &Connection,
    rebuild: &Rebuild,
    accounts: &[Account],
    now: Timestamp,
) -> Result<(), Fault> {
    let run_id = Id::from(rebuild.run_id);
    let projection = &rebuild.projection;
    let changed = db.execute(
        query!("rebuild_run"),
        named_params! {
            ":run_id": run_id,
            ":tenant": rebuild.tenant.0,
            ":version": rebuild.version.0,
            ":next_seq": rebuild.next_seq.0,
            ":epoch": rebuild.epoch.0,
            ":parent": rebuild.parent.map(Id::from),
            ":now": now.0,
            ":status": projection.status.as_str(),
            ":paused_reason": projection.paused_reason.map(|reason| reason.as_str()),
            ":wake_at": projection.wake_at.map(|at| at.0),
            ":started_at": projection.started_at.map(|at| at.0),
            ":ended_at": projection.ended_at.map(|at| at.0),
            ":error": projection.error,
        },
    )?;
    if changed == 0 {
        return Err(WriteError::Moved.into());
    }
    if let Some(event) = &rebuild.event {
        let mut statement = db.prepare_cached(query!("append_event"))?;
        rows::append_event(&mut statement, run_id, &StoredEvent::from(event))?;
    }
    db.execute(query!("rebuild_run.snapshot"), named_params! { ":run_id": run_id })?;
    for child in &rebuild.untold {
        let parameters = named_params! { ":child": Id::from(*child), ":run_id": run_id };
        db.execute(query!("rebuild_run.untold"), parameters)?;
    }
    write_inbox(db, rebuild)?;
    accounts.iter().try_for_each(|account| keep(db, account, now))
}

fn write_inbox(db: &Connection, rebuild: &Rebuild) -> Result<(), Fault> {
    let run_id = Id::from(rebuild.run_id);
    db.execute(query!("rebuild_run.approvals"), named_params! { ":run_id": run_id })?;
    for gate in &rebuild.approvals {
        db.execute(
            query!("rebuild_run.approval"),
            named_params! {
                ":run_id": run_id,
                ":seq": gate.seq.0,
                ":tenant": rebuild.tenant.0,
                ":workflow": gate.workflow,
                ":node": gate.node,
                ":attempt": gate.attempt,
                ":requested_at": gate.requested_at.0,
                ":expires_at": gate.expires_at.map(|at| at.0),
                ":decided_at": gate.decided_at.map(|at| at.0),
                ":decision": gate.decision.map(|decision| decision.as_str()),
                ":decided_by": gate.decided_by,
            },
        )?;
    }
    Ok(())
}

fn keep(db: &Connection, Account { actor, damage }: &Account, now: Timestamp) -> Result<(), Fault> {
    db.execute(
        query!("mend.account"),
        named_params! {
            ":now": now.0,
            ":actor": actor.to_string(),
            ":kind": damage.kind,
            ":subject": damage.subject,
            ":detail": damage.detail,
        },
    )?;
    Ok(())
}

pub(crate) fn list(db: &Connection, limit: u32) -> Result<Vec<RepairRow>, Fault> {
    let mut statement = db.prepare_cached(query!("list_repairs"))?;
    let rows = statement.query_map(named_params! { ":limit": limit }, |row| {
        Ok(RepairRow {
            at: Timestamp(row.get(0)?),
            actor: row.get(1)?,
            kind: row.get(2)?,
            subject: row.get(3)?,
            detail: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
