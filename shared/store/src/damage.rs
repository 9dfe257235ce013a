//! What must not be in a database, and what can be done about it.

use serde::Serialize;
use windlass_model::circuit::CircuitKey;
use windlass_model::{Actor, Digest, Epoch, Event, EventSeq, RunId, RunVersion, TenantId, Timestamp};

use crate::{ApprovalRow, Projection};

/// Something that must not be, found in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// `log_gap`, `dangling_version`, `orphan_snapshot`, `stuck_outbox`, …
    pub kind: String,
    pub subject: String,
    pub detail: String,
    /// What mends it, where no run has to be looked at for that.
    #[serde(skip)]
    pub mend: Option<Mend>,
}

impl Damage {
    pub fn new(kind: impl Into<String>, subject: impl ToString, detail: impl Into<String>) -> Self {
        Self { kind: kind.into(), subject: subject.to_string(), detail: detail.into(), mend: None }
    }

    #[must_use]
    pub fn mended_by(self, mend: Mend) -> Self {
        Self { mend: Some(mend), ..self }
    }
}

/// One thing to put right. Each is checked again in the transaction that does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Labels, fold, gates and messages of a run that does not exist go.
    RemoveOrphans { run_id: RunId },
    /// Content that no event refers to goes.
    RemoveBlob { tenant: TenantId, digest: Digest },
    /// A message that was given up, or waits too long, is tried again from the start.
    SendAgain { message: i64 },
    /// A place in a group whose run is over can be handed on.
    FreePlace { run_id: RunId },
    /// A circuit that stays open beyond all measure lets the next call try.
    TryCircuit { key: CircuitKey },
}

/// Everything that is derived from a run's log, as the log says it.
#[derive(Clone, Debug)]
pub struct Rebuild {
    pub run_id: RunId,
    pub tenant: TenantId,
    /// The row's version when the log was read.
    pub version: RunVersion,
    pub next_seq: EventSeq,
    pub epoch: Epoch,
    pub parent: Option<RunId>,
    pub projection: Projection,
    /// All gates that were ever requested.
    pub approvals: Vec<ApprovalRow>,
    /// Children whose end was called known here, and is not: they wake this run again.
    pub untold: Vec<RunId>,
    /// `run.repaired`, the last event before `next_seq`; none for a run that has ended.
    pub event: Option<Event>,
}

/// What is kept of a repair, in the transaction that did it.
#[derive(Clone, Debug)]
pub struct Account {
    pub actor: Actor,
    /// What was found.
    pub damage: Damage,
}

/// A repair, as it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairRow {
    pub at: Timestamp,
    pub actor: String,
    pub kind: String,
    pub subject: String,
    pub detail: String,
}
