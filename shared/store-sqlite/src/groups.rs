//! Concurrency groups.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::concurrency::{self, Group, Member};
use windlass_model::{Priority, RunId, TenantId, Timestamp};
use windlass_store::stored::StoredEvent;
use windlass_store::{Admissions, Admitted, Groups, MEMBERS_MAX, Newcomer, StoreError, place_taken};

use crate::fault::Fault;
use crate::rows::{self, Id};
use crate::{SqliteStore, query};

#[async_trait]
impl Groups for SqliteStore {
    async fn admit_runs(
        &self,
        tenant: TenantId,
        group: &str,
        newcomer: Option<Newcomer>,
    ) -> Result<Admissions, StoreError> {
        let group = group.to_owned();
        self.write_always(move |db, now| {
            if let Some(Newcomer { run_id, priority, group }) = &newcomer {
                join(db, tenant, *run_id, *priority, group)?;
            }
            admit(db, tenant, &group, now)
        })
        .await
    }

    async fn list_group(&self, tenant: TenantId, group: &str, limit: u32) -> Result<Vec<Member>, StoreError> {
        let group = group.to_owned();
        self.read(move |db, _| members(db, tenant, &group, limit)).await
    }
}

/// A run asks for a place in its group.
pub(crate) fn join(
    db: &Connection,
    tenant: TenantId,
    run_id: RunId,
    priority: Priority,
    group: &Group,
) -> Result<(), Fault> {
    db.prepare_cached(query!("join_group"))?.execute(named_params! {
        ":run_id": Id::from(run_id),
        ":tenant": tenant.0,
        ":name": group.name,
        ":places": group.max,
        ":on_conflict": group.on_conflict.as_str(),
        ":priority": priority.rank(),
    })?;
    Ok(())
}

/// A run has ended: whoever looks at its group finds that it may have a place for another.
pub(crate) fn leave(db: &Connection, run_id: RunId) -> Result<(), Fault> {
    place(db, run_id, "freed")
}

pub(crate) fn members(
    db: &Connection,
    tenant: TenantId,
    group: &str,
    limit: u32,
) -> Result<Vec<Member>, Fault> {
    let mut statement = db.prepare_cached(query!("list_group"))?;
    let parameters = named_params! { ":tenant": tenant.0, ":name": group, ":limit": limit };
    Ok(statement.query_map(parameters, rows::member)?.collect::<Result<_, _>>()?)
}

fn admit(db: &Connection, tenant: TenantId, group: &str, now: Timestamp) -> Result<Admissions, Fault> {
    let parameters = named_params! { ":tenant": tenant.0, ":name": group };
    db.prepare_cached(query!("admit_runs.forget"))?.execute(parameters)?;
    let members = members(db, tenant, group, MEMBERS_MAX)?;
    let waiting = members.iter().filter(|member| !member.has_place);
    let mut admitted = Vec::new();
    for member in waiting.take(concurrency::admitted(&members)) {
        match enter(db, tenant, member.run_id, now)? {
            Some(entered) => {
                place(db, member.run_id, "held")?;
                admitted.push(entered);
            }
            // It is over, and its place is one for another.
            None => leave(db, member.run_id)?,
        }
    }
    Ok(Admissions::new(members, admitted))
}

/// None when the run has ended, or is about to.
fn enter(
    db: &Connection,
    tenant: TenantId,
    run_id: RunId,
    now: Timestamp,
) -> Result<Option<Admitted>, Fault> {
    let parameters = named_params! { ":run_id": Id::from(run_id), ":tenant": tenant.0, ":now": now.0 };
    let entered = db
        .prepare_cached(query!("admit_runs"))?
        .query_row(parameters, |row| {
            let lease_owner = row.get::<_, Option<Id>>(3)?.map(Into::into);
            Ok((rows::ring(row)?, lease_owner, row.get::<_, u32>(4)?))
        })
        .optional()?;
    let Some((ring, lease_owner, seq)) = entered else { return Ok(None) };
    let event = place_taken(seq, now);
    let mut statement = db.prepare_cached(query!("append_event"))?;
    rows::append_event(&mut statement, run_id.into(), &StoredEvent::from(&event))?;
    Ok(Some(Admitted { ring, lease_owner, event }))
}

fn place(db: &Connection, run_id: RunId, state: &str) -> Result<(), Fault> {
    let parameters = named_params! { ":run_id": Id::from(run_id), ":state": state };
    db.prepare_cached(query!("admit_runs.place"))?.execute(parameters)?;
    Ok(())
}
