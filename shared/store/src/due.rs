//! What the sweep is told: what somebody should see to, and how many runs wait.

use std::collections::BTreeMap;

use windlass_model::{Ring, RunStatus, TenantId};

/// Groups that one look names; the next one names the rest.
pub const FREED_GROUPS_MAX: u32 = 500;

/// Everything that wants to be seen to, from one look, because an idle worker looks every second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Runs that an engine should take.
    pub runs: Vec<DueRun>,
    /// Runs of the session that asks: the door wrote to them since their engine last did, or they have a child whose end
    /// they have not taken in.
    pub moved: Vec<Ring>,
    /// Groups of which a run has ended since somebody last looked at them.
    pub groups: Vec<(TenantId, String)>,
    /// The time of at least one schedule has come.
    pub has_schedules: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRun {
    pub ring: Ring,
    /// How long from now, by the database's clock; zero when it is due.
    pub after: std::time::Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    pub by_status: BTreeMap<RunStatus, u64>,
    /// Age of the longest claimable run that nobody has claimed.
    pub oldest_claimable: Option<std::time::Duration>,
}
