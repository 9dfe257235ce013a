//! Taking a run, and reading all it takes to fold one.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::event::EngineTaken;
use windlass_model::{Epoch, Event, EventSeq, RunId, SessionId, Timestamp};
use windlass_store::stored::{StoredEvent, StoredSnapshot};
use windlass_store::{RunRecord, RunRow};

use crate::fault::Fault;
use crate::query;
use crate::rows::{self, Id};

pub(crate) fn claim(
    db: &Connection,
    run_id: RunId,
    session: SessionId,
    stale_after: Duration,
    now: Timestamp,
) -> Result<Option<RunRecord>, Fault> {
    let claimed = db
        .prepare_cached(query!("claim_run"))?
        .query_row(
            named_params! {
                ":run_id": Id::from(run_id),
                ":session": Id::from(session),
                ":now": now.0,
                ":stale_before": before(now, stale_after),
            },
            |row| Ok((Epoch(row.get(0)?), EventSeq(row.get(1)?))),
        )
        .optional()?;
    let Some((epoch, seq)) = claimed else { return Ok(None) };
    let taken = Event {
        seq,
        at: now,
        node: None,
        item: None,
        attempt: None,
        epoch: Some(epoch),
        actor: None,
        body: EngineTaken { session }.into(),
    };
    let mut statement = db.prepare_cached(query!("append_event"))?;
    rows::append_event(&mut statement, run_id.into(), &StoredEvent::from(&taken))?;
    let row = db
        .prepare_cached(query!("claim_run.row"))?
        .query_row(named_params! { ":run_id": Id::from(run_id) }, rows::run)?;
    // A log that cannot be read undoes the claim: nobody could let the run go again.
    record(db, row).map(Some)
}

/// The newest fold that can be read, and the events after it. Wants a transaction around it.
pub(crate) fn record(db: &Connection, row: RunRow) -> Result<RunRecord, Fault> {
    let run_id = Id::from(row.id);
    let snapshot = db
        .prepare_cached(query!("load_run.snapshot"))?
        .query_row(named_params! { ":run_id": run_id }, |row| {
            Ok(StoredSnapshot { seq: EventSeq(row.get(0)?), format: row.get(1)?, state: row.get(2)? })
        })
        .optional()?
        .and_then(|stored| stored.read());
    let after = snapshot.as_ref().map_or(0, |state| state.last_seq.0);
    let mut statement = db.prepare_cached(query!("load_run.events"))?;
    let mut found = statement.query(named_params! { ":run_id": run_id, ":after": after })?;
    let mut events = Vec::new();
    while let Some(row) = found.next()? {
        events.push(rows::event(row)?.read()?);
    }
    Ok(RunRecord { row, snapshot, events })
}

/// This long before `now`; the beginning of time instead of an underflow.
pub(crate) fn before(now: Timestamp, span: Duration) -> i64 {
    now.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}
