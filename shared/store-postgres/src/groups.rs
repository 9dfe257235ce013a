//! Concurrency groups.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;
use windlass_model::concurrency::{self, Group, Member, OnConflict};
use windlass_model::event::EventBody;
use windlass_model::{Priority, RunId, SessionId, TenantId, Timestamp};
use windlass_store::{
    Admissions, Admitted, Groups, MEMBERS_MAX, Newcomer, StoreError, WriteError, occupant, place_taken,
};

use crate::create_run::Create;
use crate::fault::Fault;
use crate::lane::Answers;
use crate::types::{At, int4};
use crate::{PostgresStore, query, rows};

#[async_trait]
impl Groups for PostgresStore {
    async fn admit_runs(
        &self,
        tenant: TenantId,
        group: &str,
        newcomer: Option<Newcomer>,
    ) -> Result<Admissions, StoreError> {
        let group = group.to_owned();
        let admitted = self
            .lookups
            .run_whole(move |db| {
                Box::pin(async move {
                    lock(db, tenant, &group).await?;
                    if let Some(Newcomer { run_id, priority, group }) = &newcomer {
                        join(db, &[(*run_id, tenant, *priority, group)]).await?;
                    }
                    admit(db, tenant, &group).await
                })
            })
            .await;
        admitted.map_err(|error| Fault::Write(error).into_store())
    }

    async fn list_group(&self, tenant: TenantId, group: &str, limit: u32) -> Result<Vec<Member>, StoreError> {
        let group = group.to_owned();
        self.lookups.ask(move |db| Box::pin(async move { members(db, tenant, &group, limit).await })).await
    }
}

/// Who looks at the same group waits until this transaction ends.
async fn lock(db: &mut PgConnection, tenant: TenantId, group: &str) -> Result<(), Fault> {
    let lock = sqlx::query(query!("put_workflow.lock")).bind(group).bind(i64::from(tenant.0));
    lock.execute(db).await?;
    Ok(())
}

/// Runs ask for a place in their groups.
pub(crate) async fn join(
    db: &mut PgConnection,
    members: &[(RunId, TenantId, Priority, &Group)],
) -> Result<(), Fault> {
    if members.is_empty() {
        return Ok(());
    }
    let column = |of: &dyn Fn(&Group) -> String| -> Vec<String> {
        members.iter().map(|(.., group)| of(group)).collect()
    };
    sqlx::query(query!("join_group"))
        .bind(members.iter().map(|(run_id, ..)| run_id.0).collect::<Vec<_>>())
        .bind(members.iter().map(|(_, tenant, ..)| tenant.0).collect::<Vec<_>>())
        .bind(column(&|group| group.name.clone()))
        .bind(members.iter().map(|(.., group)| int4(group.max)).collect::<Vec<_>>())
        .bind(column(&|group| group.on_conflict.as_str().to_owned()))
        .bind(members.iter().map(|(_, _, priority, _)| priority.rank()).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

/// Runs have ended: whoever looks at their groups finds that they may have a place for others.
pub(crate) async fn leave(db: &mut PgConnection, ended: Vec<Uuid>) -> Result<(), Fault> {
    place(db, ended, "freed").await
}

/// Takes those out of a batch of new runs whose group is full and who will not wait.
pub(crate) async fn turn_away<'a>(
    db: &mut PgConnection,
    batch: Vec<(usize, &'a Create)>,
    answers: &mut Answers<()>,
) -> Result<Vec<(usize, &'a Create)>, Fault> {
    let rejects = |create: &Create| {
        let group = create.run.group.as_ref().filter(|group| group.on_conflict == OnConflict::Reject)?;
        Some((create.run.tenant, group.name.clone()))
    };
    // In one order, so that two batches never wait for each other.
    let mut groups: BTreeMap<_, Vec<Member>> =
        batch.iter().filter_map(|(_, create)| Some((rejects(create)?, Vec::new()))).collect();
    for ((tenant, name), found) in &mut groups {
        lock(db, *tenant, name).await?;
        *found = members(db, *tenant, name, concurrency::PLACES_MAX).await?;
    }
    let mut let_in = Vec::new();
    for (at, create) in batch {
        let members = rejects(create).and_then(|key| groups.get_mut(&key));
        match (members, create.run.member()) {
            (Some(members), Some(newcomer)) => match occupant(members, newcomer.group.max) {
                Some(by) => answers[at] = Err(WriteError::Occupied { by }),
                None => {
                    members.push(newcomer);
                    let_in.push((at, create));
                }
            },
            _ => let_in.push((at, create)),
        }
    }
    Ok(let_in)
}

async fn members(
    db: &mut PgConnection,
    tenant: TenantId,
    group: &str,
    limit: u32,
) -> Result<Vec<Member>, Fault> {
    let query = sqlx::query(query!("list_group")).bind(tenant.0).bind(group).bind(i64::from(limit));
    rows::all(&query.fetch_all(db).await?, rows::member)
}

async fn admit(db: &mut PgConnection, tenant: TenantId, group: &str) -> Result<Admissions, Fault> {
    let forget = sqlx::query(query!("admit_runs.forget")).bind(tenant.0).bind(group);
    forget.execute(&mut *db).await?;
    let members = members(db, tenant, group, MEMBERS_MAX).await?;
    let waiting = members.iter().filter(|member| !member.has_place).map(|member| member.run_id.0);
    let chosen: Vec<Uuid> = waiting.take(concurrency::admitted(&members)).collect();
    let mut admitted = Vec::new();
    if !chosen.is_empty() {
        let body = EventBody::from(windlass_model::event::PlaceTaken {});
        let entered = sqlx::query(query!("admit_runs"))
            .bind(&chosen)
            .bind(tenant.0)
            .bind(body.code())
            .bind(body.data())
            .fetch_all(&mut *db)
            .await?;
        admitted = rows::all(&entered, entry)?;
        let has_entered = |id: &Uuid| admitted.iter().any(|it: &Admitted| it.ring.run_id.0 == *id);
        let (entered, gone): (Vec<_>, Vec<_>) = chosen.into_iter().partition(has_entered);
        place(db, entered, "held").await?;
        // They are over, and theirs are places for others.
        leave(db, gone).await?;
    }
    Ok(Admissions::new(members, admitted))
}

fn entry(row: &PgRow) -> Result<Admitted, Fault> {
    let seq: i32 = row.try_get("seq")?;
    let at: Timestamp = row.try_get::<At, _>("at")?.into();
    Ok(Admitted {
        ring: rows::ring(row)?,
        lease_owner: row.try_get::<Option<Uuid>, _>("lease_owner")?.map(SessionId),
        event: place_taken(seq.cast_unsigned(), at),
    })
}

async fn place(db: &mut PgConnection, runs: Vec<Uuid>, state: &str) -> Result<(), Fault> {
    if !runs.is_empty() {
        sqlx::query(query!("admit_runs.place")).bind(runs).bind(state).execute(db).await?;
    }
    Ok(())
}
