//! Pages of runs under filters that people choose.
//!
//! The text of a statement is composed from fixed fragments only; whatever came from outside is bound.

use rusqlite::types::ToSql;
use rusqlite::{Connection, params_from_iter};
use windlass_model::{RunId, RunStatus, TenantId};
use windlass_store::{RunFilter, RunRow};

use crate::fault::Fault;
use crate::rows::{self, Id};

/// Newest first.
pub(crate) fn list(
    db: &Connection,
    tenant: TenantId,
    filter: &RunFilter,
    before: Option<RunId>,
    limit: u32,
) -> Result<Vec<RunRow>, Fault> {
    // One moment for all statements, so that a run which changes its status meanwhile is neither lost nor doubled.
    let moment = db.unchecked_transaction()?;
    let mut rows = Vec::new();
    for search in Search::all_of(tenant, filter, before, limit) {
        let mut statement = moment.prepare_cached(&search.sql)?;
        let found = statement.query_map(params_from_iter(&search.values), rows::run)?;
        for row in found {
            rows.push(row?);
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.id));
    rows.truncate(limit as usize);
    Ok(rows)
}

/// One statement that an index answers in the order wanted, and its values.
pub(crate) struct Search {
    pub(crate) sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Search {
    /// One search; or one per status, because each alone is a walk along an index, newest first, while all
    /// together would have to be sorted first.
    pub(crate) fn all_of(
        tenant: TenantId,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Vec<Self> {
        let mut statuses = filter.statuses.clone();
        statuses.sort();
        statuses.dedup();
        if statuses.is_empty() {
            return vec![Self::of(tenant, filter, None, before, limit)];
        }
        statuses.into_iter().map(|status| Self::of(tenant, filter, Some(status), before, limit)).collect()
    }

    fn of(
        tenant: TenantId,
        filter: &RunFilter,
        status: Option<RunStatus>,
        before: Option<RunId>,
        limit: u32,
    ) -> Self {
        let RunFilter { statuses: _, workflow, parent, labels, created_after, created_before, text } = filter;
        let mut search = Self { sql: String::from("select r.* from "), values: Vec::new() };
        // The first label drives: a label is as narrow as a filter gets.
        let mut labels = labels.iter();
        let id = match labels.next() {
            Some((key, value)) => {
                search.sql.push_str("run_labels l cross join run_rows r on r.id = l.run_id where true");
                search.and("l.tenant = ", tenant.0);
                search.and("l.key = ", key.clone());
                search.and("l.value = ", value.clone());
                // Else the planner may walk the runs and look each one's label up.
                search.and("+r.tenant = ", tenant.0);
                "l.run_id"
            }
            None => {
                search.sql.push_str("run_rows r where true");
                search.and("r.tenant = ", tenant.0);
                "r.id"
            }
        };
        if let Some(parent) = parent {
            search.and("r.parent_id = ", Id::from(*parent));
        }
        if let Some(before) = before {
            search.and(&format!("{id} < "), Id::from(before));
        }
        if let Some(status) = status {
            search.and("r.status = ", status.as_str());
        }
        if let Some(workflow) = workflow {
            search.and("r.workflow = ", workflow.clone());
        }
        for (key, value) in labels {
            search.and("exists (select 1 from run_labels m where m.run_id = r.id and m.key = ", key.clone());
            search.and("m.value = ", value.clone());
            search.sql.push(')');
        }
        if let Some(after) = created_after {
            search.and("r.created_at > ", after.0);
        }
        if let Some(before) = created_before {
            search.and("r.created_at < ", before.0);
        }
        if let Some(text) = text {
            search.and_mentions(text);
        }
        search.sql.push_str(&format!(" order by {id} desc limit ?"));
        search.values.push(Box::new(limit));
        search
    }

    /// `condition` ends where the value belongs.
    fn and(&mut self, condition: &str, value: impl ToSql + 'static) {
        self.sql.push_str(" and ");
        self.sql.push_str(condition);
        self.sql.push('?');
        self.values.push(Box::new(value));
    }

    fn and_mentions(&mut self, text: &str) {
        self.and("(contains_ignoring_case(r.workflow, ", text.to_owned());
        for condition in [
            ") or contains_ignoring_case(uuid_text(r.id), ",
            ") or contains_ignoring_case(r.error, ",
            ") or exists (select 1 from run_labels t where t.run_id = r.id and contains_ignoring_case(t.value, ",
        ] {
            self.sql.push_str(condition);
            self.sql.push('?');
            self.values.push(Box::new(text.to_owned()));
        }
        self.sql.push_str(")))");
    }
}
