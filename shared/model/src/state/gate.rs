//! Gates: what people were asked, and what they answered.

use serde::{Deserialize, Serialize};

use crate::event::ExpiryAction;
use crate::{Actor, Attempt, Digest, Payload, Timestamp};

/// A request for approval and what people answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The attempt that it lets through.
    pub attempt: Attempt,
    pub show: Payload,
    pub digest: Digest,
    pub requested_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub grants: Vec<Grant>,
    pub outcome: Option<GateOutcome>,
    /// The error rule that opened it.
    pub rule: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub by: Actor,
    pub at: Timestamp,
    pub comment: Option<String>,
    pub form: Payload,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateOutcome {
    Granted,
    Rejected(Grant),
    Expired(ExpiryAction),
}

impl Gate {
    /// What people filled in.
    pub(super) fn forms(&mut self) -> impl Iterator<Item = &mut Payload> {
        let rejected = match &mut self.outcome {
            Some(GateOutcome::Rejected(by)) => Some(&mut by.form),
            _ => None,
        };
        self.grants.iter_mut().map(|grant| &mut grant.form).chain(rejected)
    }
}
