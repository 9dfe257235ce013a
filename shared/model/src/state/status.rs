//! The words for where runs and steps stand.

use serde::{Deserialize, Serialize};

/// Where a run stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Wants an engine.
    Queued,
    /// An engine holds it.
    Running,
    /// Parked until a timer, a person or a signal moves it; costs nothing.
    Waiting,
    /// Needs a person; the reason says why.
    Paused,
    /// A cancel was accepted; what is in flight is being stopped.
    Canceling,
    /// It has failed or was canceled; what it did is being undone.
    Compensating,
    Completed,
    Failed,
    Canceled,
}

impl RunStatus {
    pub const ALL: &[RunStatus] = &[
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Canceling,
        Self::Compensating,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
    ];

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Canceling => "canceling",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.as_str() == text)
    }
}

/// Why a run needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    Requested,
    StepFailed,
    /// An engine died while a step that must not be repeated was in flight.
    EngineInterrupted,
    /// A gate expired, or a step failed, and the definition asks for a person.
    Escalated,
    /// What was done could not be undone.
    CompensationFailed,
    /// The run was there each time its engine died, several times in a row.
    Quarantined,
}

impl PauseReason {
    pub const ALL: &[PauseReason] = &[
        Self::Requested,
        Self::StepFailed,
        Self::EngineInterrupted,
        Self::Escalated,
        Self::CompensationFailed,
        Self::Quarantined,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::StepFailed => "step_failed",
            Self::EngineInterrupted => "engine_interrupted",
            Self::Escalated => "escalated",
            Self::CompensationFailed => "compensation_failed",
            Self::Quarantined => "quarantined",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun: its needs have not settled, or nobody has started it yet.
    #[default]
    Pending,
    /// An attempt is in flight.
    Running,
    /// At a gate, for a timer, for a signal, for a child, or between two attempts.
    Waiting,
    /// Failed or interrupted; a person decides.
    Paused,
    Succeeded,
    Failed,
    Skipped,
    Canceled,
}

impl StepStatus {
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Canceled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Canceled => "canceled",
        }
    }
}
