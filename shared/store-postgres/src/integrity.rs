//! What `windlass doctor` asks: a walk over all runs, and damage that queries can see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use windlass_model::RunId;
use windlass_store::stored::blob_digests;
use windlass_store::{Damage, Integrity, RunRow, StoreError};

use crate::fault::Fault;
use crate::types::span;
use crate::{PostgresStore, query, rows};

/// A message that nobody has delivered for this long is stuck, whatever its retries say.
const STUCK_AFTER: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Integrity for PostgresStore {
    async fn scan_runs(&self, after: Option<RunId>, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        self.searches
            .ask(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("scan_runs")).bind(after.map(|id| id.0));
                    rows::all(&query.bind(i64::from(limit)).fetch_all(db).await?, rows::run)
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
}

type Looking<'c> = BoxFuture<'c, Result<Vec<Damage>, Fault>>;
type Look = for<'c> fn(&'c mut PgConnection, u32) -> Looking<'c>;

const LOOKS: &[Look] = &[
    look_for_gaps,
    look_at_status,
    look_after_the_end,
    look_for_versions,
    look_for_orphans,
    look_at_snapshots,
    look_at_approvals,
    look_at_the_outbox,
    look_for_blobs,
];

fn damage(kind: impl Into<String>, subject: impl ToString, detail: impl Into<String>) -> Damage {
    Damage { kind: kind.into(), subject: subject.to_string(), detail: detail.into() }
}

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
        Ok(damage("log_gap", run_id, detail))
    })
}

fn look_at_status(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.status"), limit, |row, run_id| {
        let (status, code): (&str, Option<i16>) = (row.try_get("status")?, row.try_get("code")?);
        let end = code.map_or("does not end".to_owned(), |code| format!("ends with an event of code {code}"));
        Ok(damage("status_mismatch", run_id, format!("the row says {status}, and the log {end}")))
    })
}

fn look_after_the_end(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.after_end"), limit, |row, run_id| {
        let (last, ended): (i32, i32) = (row.try_get("last")?, row.try_get("ended")?);
        let detail = format!("the run ended with event {ended}, and event {last} follows");
        Ok(damage("event_after_end", run_id, detail))
    })
}

fn look_for_versions(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.dangling_version"), limit, |row, run_id| {
        let version: i64 = row.try_get("version_id")?;
        let detail = format!("its definition {version} is not there, or is another one");
        Ok(damage("dangling_version", run_id, detail))
    })
}

fn look_for_orphans(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.orphans"), limit, |row, run_id| {
        Ok(damage(row.try_get::<&str, _>("kind")?, run_id, "there is no such run"))
    })
}

fn look_at_snapshots(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.snapshot"), limit, |row, run_id| {
        let (seq, next): (i32, i32) = (row.try_get("seq")?, row.try_get("next_seq")?);
        Ok(damage("snapshot_ahead", run_id, format!("its fold is of event {seq}, and next_seq is {next}")))
    })
}

fn look_at_approvals(db: &mut PgConnection, limit: u32) -> Looking<'_> {
    found(db, query!("find_damage.approvals"), limit, |row, run_id| {
        let (node, seq): (&str, i32) = (row.try_get("node")?, row.try_get("seq")?);
        Ok(if row.try_get("is_left_open")? {
            let detail = format!("the gate of {node} is open although the run has ended");
            damage("approval_left_open", run_id, detail)
        } else {
            damage("approval_unrequested", run_id, format!("event {seq} does not request the gate of {node}"))
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
            Ok(damage("stuck_outbox", subject, format!("{state} after {attempts} attempts: {error}")))
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
                damage("dangling_blob", run_id, detail)
            });
        let orphans = kept
            .iter()
            .filter(|place| !referenced.contains_key(*place))
            .map(|(_, digest)| damage("orphan_blob", digest, "no event refers to it"));
        Ok(dangling.chain(orphans).take(limit as usize).collect())
    })
}
