//! How a child ended, as its parent reads it.

use windlass_model::{ChildEnd, Event, EventBody, RunId};

use crate::StoreError;

/// A child whose end its parent has not taken in.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedChild {
    pub run_id: RunId,
    pub end: ChildEnd,
}

impl EndedChild {
    /// Reads the last event of a child.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is none.
    pub fn read(run_id: RunId, last: Event) -> Result<Self, StoreError> {
        let name = last.body.name();
        let end = ChildEnd::of(last.body)
            .ok_or_else(|| StoreError::Damaged(format!("run {run_id} ends with {name}")))?;
        Ok(Self { run_id, end })
    }
}

/// The child whose end an event takes in.
pub(crate) fn finished_child(event: &Event) -> Option<RunId> {
    match &event.body {
        EventBody::ChildFinished(body) => Some(body.run_id),
        _ => None,
    }
}
