//! What workflows' names stood for when this process last looked.
//!
//! It may be out of date: another process may have published or deleted since. So whoever writes a run writes it
//! pinned to what was found here, and looks again when the store says that it is no longer so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use windlass_model::{Plan, TenantId, VersionId};
use windlass_store::Pin;

/// Names that are remembered; when there are more, all are looked up anew.
const NAMES_MAX: usize = 1_000;

/// A definition that a run can be pinned to.
#[derive(Clone)]
pub(crate) struct Definite {
    pub plan: Arc<Plan>,
    pub version_id: VersionId,
    /// None for a definition that came inline with the run.
    pub version: Option<u32>,
    pub pin: Pin,
}

/// By tenant, and `name` or `name@version`.
#[derive(Default)]
pub(crate) struct Published(Mutex<HashMap<(TenantId, String), Definite>>);

impl Published {
    pub(crate) fn find(&self, tenant: TenantId, workflow: &str) -> Option<Definite> {
        self.names().get(&(tenant, workflow.to_owned())).cloned()
    }

    pub(crate) fn keep(&self, tenant: TenantId, workflow: &str, definite: Definite) {
        let mut names = self.names();
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert((tenant, workflow.to_owned()), definite);
    }

    /// Something of this tenant's has moved.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.names().retain(|(owner, _), _| *owner != tenant);
    }

    fn names(&self) -> MutexGuard<'_, HashMap<(TenantId, String), Definite>> {
        self.0.lock().expect("no panic while holding it")
    }
}
