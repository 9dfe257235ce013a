//! What may be asked of a run, what a runner may answer, and how a request is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{Artifact, ChildStarted, EventEmitted};
use crate::rate_limit::Turn;
use crate::workflow::schema::Violation;
use crate::{Actor, Attempt, Digest, NodeIndex, Payload, RunId, RunStatus, StepError, StepKey, Timestamp};

/// What [`crate::decide`] decides about.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody asks, through the door.
    Command { command: Command, actor: Actor },
    /// This engine has just claimed the run: what was in flight is lost.
    Taken,
    /// A runner returned.
    Outcome { node: NodeIndex, item: Option<u32>, attempt: Attempt, outcome: Outcome },
    /// The run's group has no place for it; these runs have one.
    NoPlace { held_by: Vec<RunId> },
    /// What the rate limit of the workflow says about when the run may start.
    Turn(Turn),
    /// A run that a step of this one started has ended.
    ChildEnded { run_id: RunId, end: ChildEnd },
    /// Move whatever can move now: the end of every tick, unless the engine drains.
    Advance,
    /// The engine stops: attempts still in flight are given up.
    Drain,
    /// What is derived from the log is about to be written anew, because it was damaged.
    Repaired { found: Vec<String>, actor: Actor },
}

/// What people and clients may ask of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Pause,
    Resume,
    Cancel {
        reason: Option<String>,
    },
    Approve(Verdict),
    Reject(Verdict),
    /// Try failed or interrupted steps again; one of them, or all when no node is named.
    Retry {
        node: Option<StepKey>,
    },
    /// Go on as if this step need not run.
    Skip {
        node: StepKey,
    },
    Signal {
        name: String,
        payload: Payload,
    },
    /// Set what steps come to, and members of a machine's context.
    Edit {
        outputs: BTreeMap<NodeIndex, Payload>,
        context: Map<String, Value>,
    },
    /// End, because this run takes its place.
    Move {
        to: RunId,
    },
}

impl Command {
    pub const NAMES: &[&str] =
        &["pause", "resume", "cancel", "approve", "reject", "retry", "skip", "signal", "edit", "move"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel { .. } => "cancel",
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
            Self::Retry { .. } => "retry",
            Self::Skip { .. } => "skip",
            Self::Signal { .. } => "signal",
            Self::Edit { .. } => "edit",
            Self::Move { .. } => "move",
        }
    }
}

/// A person's answer at a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub node: NodeIndex,
    /// The attempt that the person looked at.
    pub attempt: Attempt,
    /// Digest of what the person was shown, when the client kept it.
    pub digest: Option<Digest>,
    pub comment: Option<String>,
    pub form: Payload,
}

/// What a runner returned. It cannot reach the store: this value is all it can do.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Succeeded {
        output: Payload,
        artifacts: Vec<Artifact>,
        emit: Option<EventEmitted>,
    },
    Failed {
        error: StepError,
        artifacts: Vec<Artifact>,
    },
    TimedOut {
        error: StepError,
    },
    /// It stopped because its cancellation token was tripped.
    Canceled,
    /// Nothing was done: its turn comes then, and is taken.
    Deferred {
        until: Timestamp,
    },
    /// A child is ready to be started, and is written together with the event that follows from this.
    Called(ChildStarted),
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildEnd {
    Completed(Payload),
    Failed(StepError),
    Canceled,
}

impl ChildEnd {
    /// What the last event of a run says; none for any other event.
    pub fn of(body: crate::EventBody) -> Option<Self> {
        match body {
            crate::EventBody::RunCompleted(body) => Some(Self::Completed(body.output)),
            crate::EventBody::RunFailed(body) => Some(Self::Failed(body.error)),
            crate::EventBody::RunCanceled(_) => Some(Self::Canceled),
            _ => None,
        }
    }

    pub fn status(&self) -> RunStatus {
        match self {
            Self::Completed(_) => RunStatus::Completed,
            Self::Failed(_) => RunStatus::Failed,
            Self::Canceled => RunStatus::Canceled,
        }
    }
}

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub code: RejectionCode,
    /// One sentence for people.
    pub message: String,
    /// The run's status when the request was refused.
    pub status: RunStatus,
    /// How a payload breaks its schema, with pointers into what was sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
}

/// Stable codes that clients may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionCode {
    /// The run has ended; nothing can change it.
    RunTerminal,
    /// The command does not fit the run's status.
    WrongState,
    /// The gate is not, or no longer, as the request describes it.
    StaleApproval,
    /// The gate was decided before, or this person has already approved it.
    AlreadyDecided,
    /// The actor is not among those who may decide.
    NotAnApprover,
    /// Form or signal payload breaks its schema.
    InvalidPayload,
    /// The step is not in a state that the command applies to.
    WrongStepState,
    /// No step of this run waits, or ever will wait, for a signal of this name.
    UnknownSignal,
    /// Too many signals were received that no step has taken yet.
    SignalBufferFull,
}

impl RejectionCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunTerminal => "run_terminal",
            Self::WrongState => "wrong_state",
            Self::StaleApproval => "stale_approval",
            Self::AlreadyDecided => "already_decided",
            Self::NotAnApprover => "not_an_approver",
            Self::InvalidPayload => "invalid_payload",
            Self::WrongStepState => "wrong_step_state",
            Self::UnknownSignal => "unknown_signal",
            Self::SignalBufferFull => "signal_buffer_full",
        }
    }
}
