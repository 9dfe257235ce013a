//! What happens at a gate.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::payload::{Digest, Payload};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequested {
    /// What the approver is shown.
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub show: Payload,
    /// BLAKE3 of what is shown; an approval may name it to prove what was seen.
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The error rule that asks whether the step is tried again; none for a gate of the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalGranted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub form: Payload,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRejected {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub form: Payload,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalExpired {
    pub action: ExpiryAction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryAction {
    #[default]
    Reject,
    Approve,
    /// The gate stays open and the run pauses as `escalated`.
    Escalate,
}
