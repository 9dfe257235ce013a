//! Compiled definitions, each compiled once per process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use windlass_model::workflow::{Catalog, Document, compile_stored};
use windlass_model::{Digest, Plan, TenantId, VersionId};

use crate::{Definition, Store, StoreError, VersionRow};

/// Plans kept in memory; the cache starts anew when it is full.
const PLANS_MAX: usize = 1_000;

/// Plans by the definition that runs are pinned to.
pub struct Plans {
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    cache: Mutex<HashMap<VersionId, Arc<Plan>>>,
    /// Definitions without a name that this process has kept: they are never removed.
    inline: Mutex<HashMap<(TenantId, Digest), VersionId>>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("definition {0} does not exist")]
    Unknown(VersionId),
    /// It was valid for the Windlass that stored it.
    #[error("definition {id} is not valid for this version of Windlass: {problem}")]
    Invalid { id: VersionId, problem: String },
}

impl Plans {
    pub fn new(store: Arc<dyn Store>, catalog: Arc<Catalog>) -> Self {
        Self { store, catalog, cache: Mutex::default(), inline: Mutex::default() }
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub async fn get(&self, id: VersionId) -> Result<Arc<Plan>, PlanError> {
        if let Some(plan) = self.cached(id) {
            return Ok(plan);
        }
        let row = self.store.get_definition(id).await?.ok_or(PlanError::Unknown(id))?;
        self.of(&row)
    }

    /// The plan of a definition that was just read.
    pub fn of(&self, row: &VersionRow) -> Result<Arc<Plan>, PlanError> {
        if let Some(plan) = self.cached(row.id) {
            return Ok(plan);
        }
        let invalid = |problem: String| PlanError::Invalid { id: row.id, problem };
        let spec = serde_json::from_str(&row.spec).map_err(|error| invalid(error.to_string()))?;
        let plan = compile_stored(&Document::from_value(spec), &self.catalog).map_err(|problems| {
            invalid(problems.first().map(|problem| problem.detail.clone()).unwrap_or_default())
        })?;
        let plan = Arc::new(plan);
        self.keep(row.id, plan.clone());
        Ok(plan)
    }

    /// Has a definition that came inline, or stands inside another one, kept for the runs of it. Asks the database once.
    pub async fn put_inline(
        &self,
        tenant: TenantId,
        spec: &str,
        plan: &Arc<Plan>,
    ) -> Result<VersionId, StoreError> {
        let key = (tenant, plan.hash.clone());
        let known = self.inline().get(&key).copied();
        let id = match known {
            Some(id) => id,
            None => {
                let (name, hash, spec) = (plan.name.clone(), plan.hash.clone(), spec.to_owned());
                self.store.put_inline(tenant, Definition { name, hash, spec }).await?
            }
        };
        let mut inline = self.inline();
        if inline.len() >= PLANS_MAX {
            inline.clear();
        }
        inline.insert(key, id);
        drop(inline);
        if self.cached(id).is_none() {
            self.keep(id, plan.clone());
        }
        Ok(id)
    }

    fn inline(&self) -> MutexGuard<'_, HashMap<(TenantId, Digest), VersionId>> {
        self.inline.lock().expect("no panic while holding it")
    }

    /// Remembers a plan that was compiled on its way in.
    pub fn keep(&self, id: VersionId, plan: Arc<Plan>) {
        let mut cache = self.cache.lock().expect("no panic while holding it");
        if cache.len() >= PLANS_MAX {
            cache.clear();
        }
        cache.insert(id, plan);
    }

    fn cached(&self, id: VersionId) -> Option<Arc<Plan>> {
        self.cache.lock().expect("no panic while holding it").get(&id).cloned()
    }
}
