//! Pages of runs under filters that people choose.
//!
//! The text of a statement is composed from fixed fragments only; whatever came from outside is bound.

use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{Encode, QueryBuilder, Type};
use windlass_model::{RunId, RunStatus, TenantId};
use windlass_store::{RunFilter, RunRow};

use crate::fault::Fault;
use crate::rows;
use crate::types::At;

/// Newest first.
pub(crate) async fn list(
    db: &mut PgConnection,
    tenant: TenantId,
    filter: &RunFilter,
    before: Option<RunId>,
    limit: u32,
) -> Result<Vec<RunRow>, Fault> {
    let mut search = search(tenant, filter, before, limit);
    rows::all(&search.build().fetch_all(db).await?, rows::run)
}

/// One walk per status along an index, newest first, and the newest of what they find: all statuses together would
/// have to be sorted first. One statement, so that a run which changes its status meanwhile is neither lost nor
/// doubled.
fn search(tenant: TenantId, filter: &RunFilter, before: Option<RunId>, limit: u32) -> QueryBuilder<Postgres> {
    let mut statuses = match filter.statuses.is_empty() {
        true => RunStatus::ALL.to_vec(),
        false => filter.statuses.clone(),
    };
    statuses.sort();
    statuses.dedup();
    let mut search = QueryBuilder::new("select * from run_rows where id in (select id from (");
    for (number, status) in statuses.into_iter().enumerate() {
        if number > 0 {
            search.push(" union all ");
        }
        walk(&mut search, (tenant, status), filter, before, limit);
    }
    search.push(") found order by id desc limit ").push_bind(i64::from(limit));
    search.push(") order by id desc");
    search
}

fn walk(
    search: &mut QueryBuilder<Postgres>,
    (tenant, status): (TenantId, RunStatus),
    filter: &RunFilter,
    before: Option<RunId>,
    limit: u32,
) {
    let RunFilter { statuses: _, workflow, parent, labels, created_after, created_before, text } = filter;
    search.push("(select r.id from workflow_runs r where true");
    and(search, "r.tenant = ", tenant.0);
    and(search, "r.status = ", status.as_str());
    if let Some(before) = before {
        and(search, "r.id < ", before.0);
    }
    if let Some(parent) = parent {
        and(search, "r.parent_id = ", parent.0);
    }
    if let Some(workflow) = workflow {
        and(search, "r.version_id in (select v.id from workflow_versions v where v.tenant = ", tenant.0);
        and(search, "v.name = ", workflow.clone());
        search.push(")");
    }
    for (key, value) in labels {
        and(search, "r.id in (select l.run_id from run_labels l where l.tenant = ", tenant.0);
        and(search, "l.key = ", key.clone());
        and(search, "l.value = ", value.clone());
        search.push(")");
    }
    if let Some(after) = created_after {
        and(search, "r.created_at > ", At(*after));
    }
    if let Some(before) = created_before {
        and(search, "r.created_at < ", At(*before));
    }
    if let Some(text) = text {
        and_mentions(search, text);
    }
    search.push(" order by r.id desc limit ").push_bind(i64::from(limit)).push(")");
}

/// `condition` ends where the value belongs.
fn and<'v, T>(search: &mut QueryBuilder<Postgres>, condition: &str, value: T)
where
    T: Encode<'v, Postgres> + Type<Postgres>,
{
    search.push(" and ").push(condition).push_bind(value);
}

fn and_mentions(search: &mut QueryBuilder<Postgres>, text: &str) {
    search.push(" and (false");
    for place in [
        "contains_ignoring_case((select v.name from workflow_versions v where v.id = r.version_id), ",
        "contains_ignoring_case(r.id::text, ",
        "contains_ignoring_case(r.error, ",
        "exists (select from run_labels t where t.run_id = r.id and contains_ignoring_case(t.value, ",
    ] {
        search.push(" or ").push(place).push_bind(text.to_owned()).push(")");
    }
    search.push("))");
}
