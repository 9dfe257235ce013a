//! A run that goes on from what another one did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Artifact, SkipReason};
use crate::payload::Payload;
use crate::{Actor, EventSeq, RunId, StepError, StepStatus};

/// The run that a new one goes on from, and what it has from there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub run_id: RunId,
    /// Seq of the last event of that run that was looked at.
    pub seq: EventSeq,
    pub because: OriginReason,
    /// Who asked for that run, when this one takes its place: gates that exclude the requester mean the same person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Actor>,
    /// How steps ended there that need not run again, by the id of their node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, ReusedStep>,
    /// Nodes of which this run answers for the undoing from now on; oldest deed first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acted: Vec<String>,
}

/// Why a run goes on from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginReason {
    /// It does again what was done there, or a part of it. That run stays as it is.
    Rerun,
    /// It takes that run's place under another version. That run has ended with it.
    Move,
}

/// How a step ended in the run before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReusedStep {
    pub status: StepStatus,
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub output: Payload,
    /// It failed or was skipped, and the run went on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed_over: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_reason: Option<SkipReason>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

/// A person has set what this step comes to. One that had not ended has succeeded with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEdited {
    #[serde(default, skip_serializing_if = "Payload::is_null")]
    pub output: Payload,
}

/// A person has set members of the machine's context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineEdited {
    pub assigned: serde_json::Map<String, serde_json::Value>,
}
