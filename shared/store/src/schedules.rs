//! Schedules as they are stored.

use windlass_model::{RunId, TenantId, Timestamp};

use crate::{Precondition, Remember, WriteError};

/// A schedule about to be written.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    pub tenant: TenantId,
    pub name: String,
    /// What it starts, and when, as JSON.
    pub spec: String,
    pub is_paused: bool,
    /// When its time comes next; none when it is paused or there is no such time.
    pub next_at: Option<Timestamp>,
    /// `next_at` is somebody's wish, and counts even when nothing else differs from what is there.
    pub is_triggered: bool,
    pub precondition: Precondition,
    pub remember: Option<Remember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    pub tenant: TenantId,
    pub name: String,
    /// One more at every change by somebody; the ETag. A time that comes is none.
    pub revision: u32,
    pub spec: String,
    pub is_paused: bool,
    pub next_at: Option<Timestamp>,
    /// The last of its times that has come, and what became of it.
    pub last_at: Option<Timestamp>,
    pub last_run_id: Option<RunId>,
    /// Why no run was started for it.
    pub last_problem: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A time of a schedule has come. Written once, whoever notices: the schedule must still wait for this very time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    pub tenant: TenantId,
    pub name: String,
    pub revision: u32,
    pub at: Timestamp,
    pub next_at: Option<Timestamp>,
    /// Why no run starts for it.
    pub problem: Option<String>,
}

impl NewSchedule {
    /// What a store writes in place of `before`, which may have been deleted since: that itself when nothing is changed.
    ///
    /// # Errors
    /// [`WriteError::Moved`] when the precondition does not hold, or the time that it would wait for has come meanwhile.
    pub fn onto(
        &self,
        before: Option<(ScheduleRow, bool)>,
        now: Timestamp,
    ) -> Result<(ScheduleRow, bool), WriteError> {
        // A name that comes back goes on counting: no ETag ever means two things.
        let revision = before.as_ref().map_or(0, |(row, _)| row.revision) + 1;
        let visible = before.filter(|(_, is_deleted)| !is_deleted).map(|(row, _)| row);
        let holds = match self.precondition {
            Precondition::Absent => visible.is_none(),
            Precondition::Revision(expected) => visible.as_ref().is_some_and(|row| row.revision == expected),
            Precondition::None => true,
        };
        if !holds {
            return Err(WriteError::Moved);
        }
        let is_same = |row: &&ScheduleRow| row.spec == self.spec && row.is_paused == self.is_paused;
        if let Some(row) = visible.as_ref().filter(is_same).filter(|_| !self.is_triggered) {
            return Ok((row.clone(), false));
        }
        let last_at = visible.as_ref().and_then(|row| row.last_at);
        if self.next_at.is_some() && self.next_at <= last_at {
            return Err(WriteError::Moved);
        }
        let row = ScheduleRow {
            tenant: self.tenant,
            name: self.name.clone(),
            revision,
            spec: self.spec.clone(),
            is_paused: self.is_paused,
            next_at: self.next_at,
            last_at,
            last_run_id: visible.as_ref().and_then(|row| row.last_run_id),
            last_problem: visible.as_ref().and_then(|row| row.last_problem.clone()),
            created_at: visible.as_ref().map_or(now, |row| row.created_at),
            updated_at: now,
        };
        Ok((row, visible.is_none()))
    }
}
