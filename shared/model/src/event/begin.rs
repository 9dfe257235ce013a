//! How a run comes to be, and what it waits for before anything of it begins.

use serde::{Deserialize, Serialize};

use super::{Origin, Parent};
use crate::concurrency::Group;
use crate::schedule::Scheduled;
use crate::{Payload, RunId, Timestamp};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunCreated {
    /// The inputs after defaults were filled in.
    pub inputs: Payload,
    /// Nothing of it begins before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// The concurrency group in which it needs a place before anything of it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// Names of the groups in which the runs above it have a place: it shares theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups_above: Vec<String>,
    /// Its turn under the rate limit of its workflow, if it was taken before the run was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_at: Option<Timestamp>,
    /// The schedule that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// The step of another run that started this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The run that this one goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<Origin>>,
}

/// The run's group has no place for it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaceAwaited {
    /// Some of the runs that have a place.
    pub held_by: Vec<RunId>,
}

/// The run has a place in its group until it ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaceTaken {}

/// No more runs of the workflow may start now. It starts when its turn comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDeferred {
    pub until: Timestamp,
}
