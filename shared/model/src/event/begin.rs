//! How a run comes to be, and what it waits for before anything of it begins.

use serde::{Deserialize, Serialize};

use super::Parent;
use crate::{Payload, Timestamp};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunCreated {
    /// The inputs after defaults were filled in.
    pub inputs: Payload,
    /// Nothing of it begins before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// The step of another run that started this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}
