//! Tools and agents as they are registered.

use windlass_model::callee::CalleeKind;
use windlass_model::{Digest, TenantId, Timestamp};

use crate::{Precondition, Remember, WriteError};

/// A tool or an agent about to be registered.
#[derive(Clone, Debug)]
pub struct NewCallee {
    pub tenant: TenantId,
    pub kind: CalleeKind,
    pub name: String,
    pub hash: Digest,
    /// Its definition as JSON, with its name inside.
    pub spec: String,
    pub risk: Option<String>,
    pub precondition: Precondition,
    pub remember: Option<Remember>,
}

/// What lists show of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalleeRow {
    pub name: String,
    /// One more at every change; the ETag.
    pub revision: u32,
    pub hash: Digest,
    pub risk: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutCallee {
    pub callee: CalleeRow,
    pub created: bool,
    /// False when it is registered like this already; then nothing was written.
    pub changed: bool,
}

impl NewCallee {
    /// What a store writes in place of `before`, which may have been deleted since.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when the precondition does not hold.
    pub fn onto(&self, before: Option<(CalleeRow, bool)>, now: Timestamp) -> Result<PutCallee, WriteError> {
        let visible = before.as_ref().filter(|(_, is_deleted)| !is_deleted).map(|(row, _)| row.clone());
        let revision = visible.as_ref().map(|row| row.revision);
        let holds = match self.precondition {
            Precondition::Absent => revision.is_none(),
            Precondition::Revision(expected) => revision == Some(expected),
            Precondition::None => true,
        };
        if !holds {
            return Err(WriteError::Moved);
        }
        if let Some(row) = visible.clone().filter(|row| row.hash == self.hash) {
            return Ok(PutCallee { callee: row, created: false, changed: false });
        }
        let callee = CalleeRow {
            name: self.name.clone(),
            // A name that comes back goes on counting: no ETag ever means two things.
            revision: before.map_or(0, |(row, _)| row.revision) + 1,
            hash: self.hash.clone(),
            risk: self.risk.clone(),
            created_at: visible.as_ref().map_or(now, |row| row.created_at),
            updated_at: now,
        };
        Ok(PutCallee { callee, created: visible.is_none(), changed: true })
    }
}
