//! A new run: by somebody who asks for it, or by a step of another run.

use rusqlite::{Connection, named_params};
use windlass_model::concurrency::{OnConflict, PLACES_MAX};
use windlass_model::{EventSeq, Timestamp};
use windlass_store::stored::StoredEvent;
use windlass_store::{NewRun, Pin, WriteError, occupant};

use crate::fault::Fault;
use crate::rows::{self, Id};
use crate::{blobs, groups, query, replies, schedules};

/// Writes the row of a run, its first event, and what it brings along.
pub(crate) fn create(
    db: &Connection,
    run: &NewRun,
    event: &StoredEvent,
    now: Timestamp,
) -> Result<(), Fault> {
    if event.seq != EventSeq(1) {
        return Err(Fault::refused(format!("a run's first event has seq 1, not {}", event.seq)));
    }
    replies::remember(db, run.tenant, run.remember.as_ref(), now)?;
    // The step that starts a child cannot be turned away here: the child itself finds that it has no place.
    if let Some(group) = run.group.as_ref().filter(|group| group.on_conflict == OnConflict::Reject)
        && run.parent.is_none()
        && let Some(by) = occupant(&groups::members(db, run.tenant, &group.name, PLACES_MAX)?, group.max)
    {
        return Err(WriteError::Occupied { by }.into());
    }
    if let Some(firing) = &run.firing {
        schedules::fire(db, firing, Some(run.id))?;
    }
    let projection = &run.projection;
    let written = db.prepare_cached(query!("create_run"))?.execute(named_params! {
        ":run_id": Id::from(run.id),
        ":tenant": run.tenant.0,
        ":version_id": run.version_id.0,
        ":status": projection.status.as_str(),
        ":paused_reason": projection.paused_reason.map(|reason| reason.as_str()),
        ":parent_id": run.parent.map(Id::from),
        ":priority": run.priority.rank(),
        ":wake_at": projection.wake_at.map(|at| at.0),
        ":now": now.0,
        ":created_at": event.at.0,
        ":started_at": projection.started_at.map(|at| at.0),
        ":ended_at": projection.ended_at.map(|at| at.0),
        ":error": projection.error,
        ":pin": run.pin as u8,
    })?;
    match (written, run.pin) {
        (0, Pin::Inline) => {
            return Err(Fault::refused(format!("there is no definition {}", run.version_id)));
        }
        (0, Pin::Version | Pin::Latest) => return Err(WriteError::Moved.into()),
        _ => {}
    }
    let mut statement = db.prepare_cached(query!("append_event"))?;
    rows::append_event(&mut statement, run.id.into(), event)?;
    for (key, value) in &run.labels {
        db.prepare_cached(query!("create_run.label"))?.execute(named_params! {
            ":run_id": Id::from(run.id),
            ":tenant": run.tenant.0,
            ":key": key,
            ":value": value,
        })?;
    }
    if let Some(group) = &run.group {
        groups::join(db, run.tenant, run.id, run.priority, group)?;
    }
    Ok(blobs::keep(db, run.tenant, &run.blobs)?)
}
