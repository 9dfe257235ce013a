//! What a doctor may ask and do. Of a database in memory only what callers can do wrong is damage.

use async_trait::async_trait;
use windlass_model::{Digest, RunId, RunVersion, TenantId};

use super::MemoryStore;
use super::tables::{Tables, refused};
use crate::stored::blob_digests;
use crate::{
    Account, Damage, Integrity, Mend, Projection, Rebuild, RepairRow, RunRow, StoreError, WriteError,
};

#[async_trait]
impl Integrity for MemoryStore {
    async fn scan_runs(
        &self,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, RunId)>, StoreError> {
        self.read(|tables, _| {
            let rows = tables.runs.values().map(|run| (run.row.tenant, run.row.id));
            let page = rows.filter(|(_, id)| after.is_none_or(|after| *id > after));
            Ok(page.take(limit as usize).collect())
        })
    }

    async fn find_damage(&self, limit: u32) -> Result<Vec<Damage>, StoreError> {
        self.read(|tables, now| {
            let mut damage = Vec::new();
            for run in tables.runs.values() {
                for digest in run.log.events.iter().flat_map(|event| blob_digests(&event.data)) {
                    let place = (run.row.tenant, Digest(digest));
                    if !tables.blobs.contains_key(&place) {
                        let detail = format!("an event refers to blob {}, which is not there", place.1);
                        damage.push(Damage::new("dangling_blob", run.row.id, detail));
                    }
                }
            }
            let orphans = tables.blobs.keys().filter(|(tenant, digest)| !is_needed(tables, *tenant, digest));
            damage.extend(orphans.map(|(tenant, digest)| {
                let mend = Mend::RemoveBlob { tenant: *tenant, digest: digest.clone() };
                Damage::new("orphan_blob", digest, "no event refers to it").mended_by(mend)
            }));
            damage.extend(tables.outbox.values().filter_map(|entry| {
                let error = entry.dead.as_ref()?;
                let subject = format!("{}@{}", entry.row.run_id, entry.row.message.seq);
                let detail = format!("given up after {} attempts: {error}", entry.row.attempts);
                let mend = Mend::SendAgain { message: entry.row.id };
                Some(Damage::new("stuck_outbox", subject, detail).mended_by(mend))
            }));
            damage.extend(tables.kept_places().map(|(run_id, group)| {
                Damage::new("kept_place", run_id, format!("it is over, and keeps its place in `{group}`"))
                    .mended_by(Mend::FreePlace { run_id })
            }));
            damage.extend(tables.circuits.iter().filter(|(_, circuit)| circuit.is_beyond_measure(now)).map(
                |(key, _)| {
                    let mend = Mend::TryCircuit { key: key.clone() };
                    let subject = format!("{} {}", key.kind.as_str(), key.name);
                    Damage::new("stuck_circuit", subject, "no call may try it for longer than ten years")
                        .mended_by(mend)
                },
            ));
            damage.truncate(limit as usize);
            Ok(damage)
        })
    }

    async fn mend(&self, mend: Mend, account: Account) -> Result<(), WriteError> {
        self.write(|tables, now| {
            let is_done = match mend {
                Mend::RemoveOrphans { run_id } => {
                    let is_there = tables.runs.contains_key(&run_id);
                    tables.outbox.retain(|_, entry| is_there || entry.row.run_id != run_id);
                    !is_there
                }
                Mend::RemoveBlob { tenant, digest } => {
                    !is_needed(tables, tenant, &digest) && tables.blobs.remove(&(tenant, digest)).is_some()
                }
                Mend::SendAgain { message } => match tables.outbox.get_mut(&message) {
                    Some(entry) => {
                        entry.dead = None;
                        entry.due_at = now;
                        entry.row.attempts = 0;
                        true
                    }
                    None => false,
                },
                Mend::FreePlace { run_id } => {
                    let is_kept = tables.kept_places().any(|(kept, _)| kept == run_id);
                    if is_kept {
                        tables.leave(run_id);
                    }
                    is_kept
                }
                Mend::TryCircuit { key } => match tables.circuits.get_mut(&key) {
                    Some(circuit) if circuit.is_beyond_measure(now) => {
                        circuit.probe_at = Some(now);
                        true
                    }
                    _ => false,
                },
            };
            if !is_done {
                return Err(WriteError::Moved);
            }
            tables.keep_accounts(vec![account], now);
            Ok(())
        })
    }

    async fn rebuild_run(&self, rebuild: Rebuild, accounts: Vec<Account>) -> Result<(), WriteError> {
        self.write(|tables, now| {
            let Some(run) = tables.runs.get_mut(&rebuild.run_id) else { return Err(WriteError::Moved) };
            if run.row.tenant != rebuild.tenant || run.row.version != rebuild.version {
                return Err(WriteError::Moved);
            }
            let Projection { status, paused_reason, wake_at, started_at, ended_at, error } =
                rebuild.projection;
            if run.row.status.is_terminal() && run.row.status != status {
                return Err(refused("a run that has ended stays ended").into());
            }
            run.log.check(rebuild.event.as_slice())?;
            run.log.append(rebuild.event.as_slice());
            run.row = RunRow {
                version: RunVersion(run.row.version.0 + 1),
                next_seq: rebuild.next_seq,
                epoch: rebuild.epoch,
                parent: rebuild.parent,
                last_activity_at: now,
                lease_owner: run.row.lease_owner.filter(|_| !status.is_terminal()),
                status,
                paused_reason,
                wake_at,
                started_at,
                ended_at,
                error,
                ..run.row.clone()
            };
            run.attention = run.row.lease_owner.is_some();
            run.parent_told &= rebuild.parent.is_some() && ended_at.is_some();
            run.approvals = rebuild.approvals;
            run.snapshot = None;
            for child in rebuild.untold {
                if let Some(child) =
                    tables.runs.get_mut(&child).filter(|it| it.row.parent == Some(rebuild.run_id))
                {
                    child.parent_told = false;
                }
            }
            tables.keep_accounts(accounts, now);
            Ok(())
        })
    }

    async fn list_repairs(&self, limit: u32) -> Result<Vec<RepairRow>, StoreError> {
        self.read(|tables, _| Ok(tables.repairs.iter().rev().take(limit as usize).cloned().collect()))
    }
}

/// Whether any event refers to this content.
fn is_needed(tables: &Tables, tenant: TenantId, digest: &Digest) -> bool {
    let runs = tables.runs.values().filter(|run| run.row.tenant == tenant);
    runs.flat_map(|run| &run.log.events).any(|event| blob_digests(&event.data).contains(&digest.0))
}
