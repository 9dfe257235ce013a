//! What a doctor may ask. Of a database in memory only what callers can do wrong is damage.

use std::collections::BTreeSet;

use async_trait::async_trait;
use windlass_model::{Digest, RunId};

use super::MemoryStore;
use crate::stored::blob_digests;
use crate::{Damage, Integrity, RunRow, StoreError};

#[async_trait]
impl Integrity for MemoryStore {
    async fn scan_runs(&self, after: Option<RunId>, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        self.read(|tables, _| {
            let rows = tables.runs.values().map(|run| &run.row);
            let page = rows.filter(|row| after.is_none_or(|after| row.id > after));
            Ok(page.take(limit as usize).cloned().collect())
        })
    }

    async fn find_damage(&self, limit: u32) -> Result<Vec<Damage>, StoreError> {
        self.read(|tables, _| {
            let mut damage = Vec::new();
            let mut referenced = BTreeSet::new();
            for run in tables.runs.values() {
                for digest in run.log.events.iter().flat_map(|event| blob_digests(&event.data)) {
                    let place = (run.row.tenant, Digest(digest));
                    if !tables.blobs.contains_key(&place) {
                        damage.push(Damage {
                            kind: "dangling_blob".into(),
                            subject: run.row.id.to_string(),
                            detail: format!("an event refers to blob {}, which is not there", place.1),
                        });
                    }
                    referenced.insert(place);
                }
            }
            damage.extend(tables.blobs.keys().filter(|place| !referenced.contains(place)).map(
                |(_, digest)| Damage {
                    kind: "orphan_blob".into(),
                    subject: digest.to_string(),
                    detail: "no event refers to it".into(),
                },
            ));
            damage.extend(tables.outbox.values().filter_map(|entry| {
                let error = entry.dead.as_ref()?;
                Some(Damage {
                    kind: "stuck_outbox".into(),
                    subject: format!("{}@{}", entry.row.run_id, entry.row.message.seq),
                    detail: format!("given up after {} attempts: {error}", entry.row.attempts),
                })
            }));
            damage.truncate(limit as usize);
            Ok(damage)
        })
    }
}
