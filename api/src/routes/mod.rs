//! One file per resource.

pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod artifacts;
pub(crate) mod callees;
pub(crate) mod circuit_breakers;
pub(crate) mod commands;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod machine;
pub(crate) mod rate_limits;
pub(crate) mod schedules;
pub(crate) mod steps;
pub(crate) mod tools;
pub(crate) mod workflow_runs;
pub(crate) mod workflows;
