//! What the doorbell carries: which run wants an engine, whose it is, and how urgent.

use crate::{Priority, RunId, TenantId};

/// A run that some engine should look at. It says nothing that its row does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ring {
    pub priority: Priority,
    pub tenant: TenantId,
    pub run_id: RunId,
}
