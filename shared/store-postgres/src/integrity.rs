//! What `windlass doctor` asks: a walk over all runs, and damage that queries can see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use windlass_model::circuit::{CircuitKey, Guarded};
use windlass_model::time::SPAN_MAX;
use windlass_model::{Digest, RunId, TenantId};
use windlass_store::stored::blob_digests;
use windlass_store::{Account, Damage, Integrity, Mend, Rebuild, RepairRow, StoreError, WriteError};

use crate::fault::Fault;
use crate::types::span;
use crate::{PostgresStore, query, repair, rows};

/// A message that has been due for so long, and that nobody has tried, is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Integrity for PostgresStore {
    async fn scan_runs(
        &self,
        after: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, RunId)>, StoreError> {
        self.searches
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("scan_runs")).bind(after.map(|id| id.0));
                    let found = query.bind(i64::from(limit)).fetch_all(db).await?;
                    rows::all(&found, |row| Ok((TenantId(row.try_get("tenant")?), RunId(row.try_get("id")?))))
                })
            })
            .await
    }

    async fn find_damage(&self, limit: u32) -> Result<Vec<Damage>, StoreError> {
        // One moment, so that a write between two queries does not look like damage.
        self.searches
            .walk(move |db| {
                Box::pin(async move {
                    let mut damage = Vec::new();
                    for look in LOOKS {
                        damage.extend(look(db, limit).await?);
                    }
                    damage.truncate(limit as usize);
                    Ok(damage)
                })
            })
            .await
    }

    async fn mend(&self, mend: Mend, account: Account) -> Result<(), WriteError> {
        self.searches
            .run_whole(move |db| Box::pin(async move { repair::mend(db, &mend, &account).await }))
            .await
    }

    async fn rebuild_run(&self, rebuild: Rebuild, accounts: Vec<Account>) -> Result<(), WriteError> {
        self.lookups
            .run_whole(move |db| Box::pin(async move { repair::rebuild(db, &rebuild, &accounts).await }))
            .await
    }

    async fn list_repairs(&self, limit: u32) -> Result<Vec<RepairRow>, StoreError> {
        self.searches.ask(move |db| Box::pin(async move { repair::list(db, limit).await })).await
    }
}

type Looking<'c> = BoxFuture<'c, Result<Vec<Damage>, Fault>>;
type Look = for<'c> fn(&'c mut PgConnection, u32) -> Looking<'c>;

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

fn found<'c>(
    db: &'c mut PgConnection,
    sql: &'static str,
    limit: u32,
    read: impl Fn(&PgRow, RunId) -> Result<Damage, sqlx::Error> + Send + Sync + 'c,
) -> Looking<'c> {
    Box::pin(async move {
        let found = sqlx::query(sql).bind(i64::from(limit)).fetch_all(db).await?;
        rows::all(&found, |row| Ok(read(row, RunId(row.try_get("run_id")?))?))
    })
}

fn look_for_gaps(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.log_gap"), limit, |row, run_id| {
        let (next, count): (i32, i64) = (row.try_get("next_seq")?, row.try_get("count")?);
        let (first, last): (i32, i32) = (row.try_get("first")?, row.try_get("last")?);
        let detail = format!("next_seq is {next}, and the log has {count} events from {first} to {last}");
        Ok(Damage::new("log_gap", run_id, detail))
    })
}

fn look_at_status(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.status"), limit, |row, run_id| {
        let (status, code): (&str, Option<i16>) = (row.try_get("status")?, row.try_get("code")?);
        let end = code.map_or("does not end".to_owned(), |code| format!("ends with an event of code {code}"));
        Ok(Damage::new("status_mismatch", run_id, format!("the row says {status}, and the log {end}")))
    })
}

fn look_after_the_end(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.after_end"), limit, |row, run_id| {
        let (last, ended): (i32, i32) = (row.try_get("last")?, row.try_get("ended")?);
        let detail = format!("the run ended with event {ended}, and event {last} follows");
        Ok(Damage::new("event_after_end", run_id, detail))
    })
}

fn look_for_versions(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.dangling_version"), limit, |row, run_id| {
        let version: i64 = row.try_get("version_id")?;
        let detail = format!("its definition {version} is not there, or is another one");
        Ok(Damage::new("dangling_version", run_id, detail))
    })
}

fn look_for_orphans(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.orphans"), limit, |row, run_id| {
        let kind: &str = row.try_get("kind")?;
        let damage = Damage::new(kind, run_id, "there is no such run");
        // What has happened is not forgotten.
        let is_log = kind == "orphan_events";
        Ok(if is_log { damage } else { damage.mended_by(Mend::RemoveOrphans { run_id }) })
    })
}

fn look_for_parents(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.parents"), limit, |_, run_id| {
        Ok(Damage::new("orphan_child", run_id, "the run whose step started it is not there"))
    })
}

fn look_for_latest(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    Box::pin(async move {
        let query = sqlx::query(query!("find_damage.latest")).bind(i64::from(limit));
        rows::all(&query.fetch_all(db).await?, |row| {
            let (name, latest): (&str, i32) = (row.try_get("name")?, row.try_get("latest_version")?);
            Ok(Damage::new("dangling_latest", name, format!("its latest version {latest} is not there")))
        })
    })
}

fn look_at_places(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.places"), limit, |row, run_id| {
        let group: String = row.try_get("name")?;
        let damage =
            Damage::new("kept_place", run_id, format!("it is over, and keeps its place in `{group}`"));
        Ok(damage.mended_by(Mend::FreePlace { run_id }))
    })
}

fn look_at_circuits(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    Box::pin(async move {
        let query = sqlx::query(query!("find_damage.circuits")).bind(i64::from(limit)).bind(span(SPAN_MAX));
        rows::all(&query.fetch_all(db).await?, |row| {
            let (tenant, kind): (i32, &str) = (row.try_get("tenant")?, row.try_get("kind")?);
            let name: String = row.try_get("name")?;
            let subject = format!("{kind} {name}");
            let damage =
                Damage::new("stuck_circuit", subject, "no call may try it for longer than ten years");
            Ok(match Guarded::parse(kind) {
                Some(kind) => {
                    let key = CircuitKey { tenant: TenantId(tenant), kind, name };
                    damage.mended_by(Mend::TryCircuit { key })
                }
                None => damage,
            })
        })
    })
}

fn look_at_snapshots(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.snapshot"), limit, |row, run_id| {
        let (seq, next): (i32, i32) = (row.try_get("seq")?, row.try_get("next_seq")?);
        Ok(Damage::new(
            "snapshot_ahead",
            run_id,
            format!("its fold is of event {seq}, and next_seq is {next}"),
        ))
    })
}

fn look_at_approvals(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.approvals"), limit, |row, run_id| {
        let (node, seq): (&str, i32) = (row.try_get("node")?, row.try_get("seq")?);
        Ok(if row.try_get("is_left_open")? {
            let detail = format!("the gate of {node} is open although the run has ended");
            Damage::new("approval_left_open", run_id, detail)
        } else {
            Damage::new(
                "approval_unrequested",
                run_id,
                format!("event {seq} does not request the gate of {node}"),
            )
        })
    })
}

fn look_at_the_outbox(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    Box::pin(async move {
        let query = sqlx::query(query!("find_damage.outbox")).bind(i64::from(limit)).bind(span(STUCK_AFTER));
        rows::all(&query.fetch_all(db).await?, |row| {
            let subject = format!("{}@{}", RunId(row.try_get("run_id")?), row.try_get::<i32, _>("seq")?);
            let (attempts, error): (i32, &str) = (row.try_get("attempts")?, row.try_get("error")?);
            let state = if row.try_get("is_dead")? { "given up" } else { "not delivered" };
            let detail = format!("{state} after {attempts} attempts: {error}");
            let mend = Mend::SendAgain { message: row.try_get("id")? };
            Ok(Damage::new("stuck_outbox", subject, detail).mended_by(mend))
        })
    })
}

/// References to blobs that are not there, and blobs that nothing refers to.
fn look_for_blobs(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    Box::pin(async move {
        let mut referenced = BTreeMap::new();
        let mut events = sqlx::query(query!("find_damage.references")).fetch(&mut *db);
        while let Some(row) = events.try_next().await? {
            let (tenant, run_id) = (row.try_get::<i32, _>("tenant")?, RunId(row.try_get("run_id")?));
            for digest in blob_digests(row.try_get("data")?) {
                referenced.insert((tenant, digest), run_id);
            }
        }
        drop(events);
        let mut kept = BTreeSet::<(i32, String)>::new();
        for row in sqlx::query(query!("find_damage.blobs")).fetch_all(db).await? {
            kept.insert((row.try_get("tenant")?, row.try_get("digest")?));
        }
        let dangling =
            referenced.iter().filter(|(place, _)| !kept.contains(*place)).map(|((_, digest), run_id)| {
                let detail = format!("an event refers to blob {digest}, which is not there");
                Damage::new("dangling_blob", run_id, detail)
            });
        let orphans = kept.iter().filter(|place| !referenced.contains_key(*place)).map(|(tenant, digest)| {
            let mend = Mend::RemoveBlob { tenant: TenantId(*tenant), digest: Digest(digest.clone()) };
            Damage::new("orphan_blob", digest, "no event refers to it").mended_by(mend)
        });
        Ok(dangling.chain(orphans).take(limit as usize).collect())
    })
}
