//! What happens between a run and those that its steps start.

use serde::{Deserialize, Serialize};

use crate::{Attempt, RunId, RunStatus, Timestamp};

/// The step that started a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub run_id: RunId,
    /// The node's id in the parent's definition.
    pub node: String,
    /// Of a step that is for one item of many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    pub attempt: Attempt,
    /// How many runs stand above this one: 1 for the child of a run that people started.
    pub depth: u32,
}

/// A run was started by this step, in the same transaction, and is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStarted {
    pub run_id: RunId,
    pub workflow: String,
    /// The version that it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// When it is asked to stop: the timeout of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A child has ended. What that means for the step which waited for it follows in the same commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildFinished {
    pub run_id: RunId,
    pub status: RunStatus,
}

/// A child shall stop. The engine that writes this asks it to, and the next one again if it died before that; the
/// parent does not end before the child has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCancelRequested {
    pub run_id: RunId,
    pub because: RecallReason,
}

/// Why a child is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecallReason {
    /// Its step has a timeout.
    Timeout,
    /// The parent is being canceled.
    ParentCanceled,
    /// The parent is about to fail.
    ParentFailed,
    /// The parent's time is over: it fails once its children have ended.
    ParentDeadline,
    /// Another branch has failed, and the node that has them both does not wait for the rest.
    BranchFailed,
    /// Its step was skipped, or left by its machine: nobody waits for it any more.
    StepEnded,
}

impl RecallReason {
    /// As the child's log gives it as the reason of its cancel.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Timeout => "the step of the parent run took longer than it may",
            Self::ParentCanceled => "the parent run is being canceled",
            Self::ParentFailed => "the parent run has failed",
            Self::ParentDeadline => "the deadline of the parent run has passed",
            Self::BranchFailed => "another branch has failed",
            Self::StepEnded => "the parent run no longer waits for this run",
        }
    }
}
