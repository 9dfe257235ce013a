//! What `windlass doctor` asks: a walk over all runs, and damage that queries can see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, Row, named_params};
use windlass_model::circuit::{CircuitKey, Guarded};
use windlass_model::time::SPAN_MAX;
use windlass_model::{Digest, RunId, TenantId, Timestamp};
use windlass_store::stored::blob_digests;
use windlass_store::{Account, Damage, Integrity, Mend, Rebuild, RepairRow, StoreError, WriteError};

use crate::claim::before;
use crate::fault::Fault;
use crate::rows::Id;
use crate::{SqliteStore, query, repair};

/// A message that has been due for so long, and that nobody has tried, is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Integrity for SqliteStore {
    async fn scan_runs(
        &self,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, RunId)>, StoreError> {
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("scan_runs"))?;
            let parameters = named_params! { ":after": after.map(Id::from), ":limit": limit };
            let rows = statement
                .query_map(parameters, |row| Ok((TenantId(row.get(0)?), row.get::<_, Id>(1)?.into())))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn find_damage(&self, limit: u32) -> Result<Vec<Damage>, StoreError> {
        self.read(move |db, now| {
            // One moment, so that a write between two queries does not look like damage.
            let moment = db.unchecked_transaction()?;
            let mut damage = Vec::new();
            for look in LOOKS {
                damage.extend(look(&moment, now, limit)?);
            }
            damage.truncate(limit as usize);
            Ok(damage)
        })
        .await
    }

    async fn mend(&self, mend: Mend, account: Account) -> Result<(), WriteError> {
        self.write(move |db, now| repair::mend(db, &mend, &account, now)).await
    }

    async fn rebuild_run(&self, rebuild: Rebuild, accounts: Vec<Account>) -> Result<(), WriteError> {
        self.write(move |db, now| repair::rebuild(db, &rebuild, &accounts, now)).await
    }

    async fn list_repairs(&self, limit: u32) -> Result<Vec<RepairRow>, StoreError> {
        self.read(move |db, _| repair::list(db, limit)).await
    }
}

type Look = fn(&Connection, Timestamp, u32) -> Result<Vec<Damage>, Fault>;

const LOOKS: &[Look] = &[
    look_for_gaps,
    look_at_status,
    look_after_the_end,
    look_for_versions,
    look_for_orphans,
    look_for_parents,
    look_for_latest,
    look_at_places,
    look_at_circuits,
    look_at_snapshots,
    look_at_approvals,
    look_at_the_outbox,
    look_for_blobs,
];

fn found(
    db: &Connection,
    sql: &str,
    limit: u32,
    read: impl Fn(&Row<'_>, RunId) -> rusqlite::Result<Damage>,
) -> Result<Vec<Damage>, Fault> {
    let mut statement = db.prepare(sql)?;
    let rows = statement
        .query_map(named_params! { ":limit": limit }, |row| read(row, row.get::<_, Id>("run_id")?.into()))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn look_for_gaps(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.log_gap"), limit, |row, run_id| {
        let (next, count, first, last): (i64, i64, i64, i64) =
            (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        let detail = format!("next_seq is {next}, and the log has {count} events from {first} to {last}");
        Ok(Damage::new("log_gap", run_id, detail))
    })
}

fn look_at_status(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.status"), limit, |row, run_id| {
        let (status, code): (String, Option<i64>) = (row.get(1)?, row.get(2)?);
        let end = code.map_or("does not end".to_owned(), |code| format!("ends with an event of code {code}"));
        Ok(Damage::new("status_mismatch", run_id, format!("the row says {status}, and the log {end}")))
    })
}

fn look_after_the_end(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.after_end"), limit, |row, run_id| {
        let (last, end): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Damage::new(
            "event_after_end",
            run_id,
            format!("the run ended with event {end}, and event {last} follows"),
        ))
    })
}

fn look_for_versions(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.dangling_version"), limit, |row, run_id| {
        let version: i64 = row.get(1)?;
        Ok(Damage::new(
            "dangling_version",
            run_id,
            format!("its definition {version} is not there, or is another one"),
        ))
    })
}

fn look_for_orphans(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.orphans"), limit, |row, run_id| {
        let kind: String = row.get("kind")?;
        let is_log = kind == "orphan_events";
        let damage = Damage::new(kind, run_id, "there is no such run");
        // What has happened is not forgotten.
        Ok(if is_log { damage } else { damage.mended_by(Mend::RemoveOrphans { run_id }) })
    })
}

fn look_for_parents(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.parents"), limit, |_, run_id| {
        Ok(Damage::new("orphan_child", run_id, "the run whose step started it is not there"))
    })
}

fn look_for_latest(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    let mut statement = db.prepare(query!("find_damage.latest"))?;
    let rows = statement.query_map(named_params! { ":limit": limit }, |row| {
        let (name, latest): (String, i64) = (row.get(0)?, row.get(1)?);
        Ok(Damage::new("dangling_latest", name, format!("its latest version {latest} is not there")))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn look_at_places(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.places"), limit, |row, run_id| {
        let group: String = row.get(1)?;
        let damage =
            Damage::new("kept_place", run_id, format!("it is over, and keeps its place in `{group}`"));
        Ok(damage.mended_by(Mend::FreePlace { run_id }))
    })
}

fn look_at_circuits(db: &Connection, now: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    let mut statement = db.prepare(query!("find_damage.circuits"))?;
    let parameters = named_params! { ":limit": limit, ":beyond": now.plus(SPAN_MAX).0 };
    let rows = statement.query_map(parameters, |row| {
        let (tenant, kind, name): (i32, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let subject = format!("{kind} {name}");
        let damage = Damage::new("stuck_circuit", subject, "no call may try it for longer than ten years");
        Ok(match Guarded::parse(&kind) {
            Some(kind) => {
                let key = CircuitKey { tenant: TenantId(tenant), kind, name };
                damage.mended_by(Mend::TryCircuit { key })
            }
            None => damage,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn look_at_snapshots(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.snapshot"), limit, |row, run_id| {
        let (seq, next): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Damage::new(
            "snapshot_ahead",
            run_id,
            format!("its fold is of event {seq}, and next_seq is {next}"),
        ))
    })
}

fn look_at_approvals(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    found(db, query!("find_damage.approvals"), limit, |row, run_id| {
        let (node, seq): (String, i64) = (row.get(1)?, row.get(2)?);
        Ok(if row.get(3)? {
            Damage::new(
                "approval_left_open",
                run_id,
                format!("the gate of {node} is open although the run has ended"),
            )
        } else {
            Damage::new(
                "approval_unrequested",
                run_id,
                format!("event {seq} does not request the gate of {node}"),
            )
        })
    })
}

fn look_at_the_outbox(db: &Connection, now: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    let mut statement = db.prepare(query!("find_damage.outbox"))?;
    let parameters = named_params! { ":limit": limit, ":stuck_before": before(now, STUCK_AFTER) };
    let rows = statement.query_map(parameters, |row| {
        let subject = format!("{}@{}", RunId::from(row.get::<_, Id>(0)?), row.get::<_, i64>(1)?);
        let (attempts, is_dead, error): (i64, bool, String) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let state = if is_dead { "given up" } else { "not delivered" };
        let detail = format!("{state} after {attempts} attempts: {error}");
        let mend = Mend::SendAgain { message: row.get("id")? };
        Ok(Damage::new("stuck_outbox", subject, detail).mended_by(mend))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// References to blobs that are not there, and blobs that nothing refers to.
fn look_for_blobs(db: &Connection, _: Timestamp, limit: u32) -> Result<Vec<Damage>, Fault> {
    let mut referenced = BTreeMap::new();
    let mut statement = db.prepare(query!("find_damage.references"))?;
    let mut events = statement.query([])?;
    while let Some(row) = events.next()? {
        let (tenant, run_id): (i32, Id) = (row.get(0)?, row.get(1)?);
        for digest in blob_digests(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?) {
            referenced.insert((tenant, digest), RunId::from(run_id));
        }
    }
    let mut statement = db.prepare(query!("find_damage.blobs"))?;
    let kept = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<BTreeSet<(i32, String)>, _>>()?;
    let dangling =
        referenced.iter().filter(|(place, _)| !kept.contains(*place)).map(|((_, digest), run_id)| {
            Damage::new(
                "dangling_blob",
                run_id,
                format!("an event refers to blob {digest}, which is not there"),
            )
        });
    let orphans = kept.iter().filter(|place| !referenced.contains_key(*place)).map(|(tenant, digest)| {
        let mend = Mend::RemoveBlob { tenant: TenantId(*tenant), digest: Digest(digest.clone()) };
        Damage::new("orphan_blob", digest, "no event refers to it").mended_by(mend)
    });
    Ok(dangling.chain(orphans).take(limit as usize).collect())
}
