//! One file per resource.

pub(crate) mod approvals;
pub(crate) mod artifacts;
pub(crate) mod commands;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod machine;
pub(crate) mod steps;
pub(crate) mod workflow_runs;
pub(crate) mod workflows;
