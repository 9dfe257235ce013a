//! What the sweep is told: which runs want an engine, and how many wait.

use std::collections::BTreeMap;

use windlass_model::{Ring, RunStatus};

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
