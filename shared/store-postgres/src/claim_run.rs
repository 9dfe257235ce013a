//! Taking runs, a group in one statement, and reading all it takes to fold one.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use windlass_model::event::EngineTaken;
use windlass_model::state::SNAPSHOT_FORMAT;
use windlass_model::{Event, EventBody, EventSeq, RunId, SessionId};
use windlass_store::stored::StoredEvent;
use windlass_store::{RunRecord, RunRow, WriteError};

use crate::fault::Fault;
use crate::lane::{Answers, Kind};
use crate::types::{int4, span};
use crate::{query, rows};

/// The same statement, except that it waits for rows that others are writing to.
static PATIENT: LazyLock<&str> = LazyLock::new(|| query!("claim_run").replace(SKIP_LOCKED, "").leak());
const SKIP_LOCKED: &str = " skip locked";

/// A run whose history cannot be read is left alone this long: a newer Windlass may be able to.
const PUT_OFF: Duration = Duration::from_secs(30);

pub(crate) struct Claim {
    pub(crate) run_id: RunId,
    pub(crate) session: SessionId,
    pub(crate) stale_after: Duration,
}

/// The lane of claims.
pub(crate) struct Claims;

impl Kind for Claims {
    type Item = Claim;
    type Answer = Option<RunRecord>;

    fn commit<'c>(
        db: &'c mut PgConnection,
        claims: &'c [Claim],
    ) -> BoxFuture<'c, Result<Answers<Option<RunRecord>>, Fault>> {
        Box::pin(async move {
            let mut answers: Vec<_> = claims.iter().map(|_| Ok(None)).collect();
            let mut left: Vec<_> = (0..claims.len()).collect();
            while !left.is_empty() {
                // Two claims of one run in one statement would both be granted.
                let mut runs = HashSet::new();
                let (group, later): (Vec<_>, _) =
                    left.into_iter().partition(|at| runs.insert(claims[*at].run_id));
                claim(db, query!("claim_run"), claims, &group, &mut answers).await?;
                claim_patiently(db, claims, group, &mut answers).await?;
                left = later;
            }
            Ok(answers)
        })
    }
}

/// A row that somebody was writing to at that moment was passed over: waits for it, though not for long. Most of what
/// was not claimed is simply not there to be taken, and then nothing is waited for.
async fn claim_patiently(
    db: &mut PgConnection,
    claims: &[Claim],
    mut group: Vec<usize>,
    answers: &mut [Result<Option<RunRecord>, WriteError>],
) -> Result<(), Fault> {
    group.retain(|at| matches!(answers[*at], Ok(None)));
    if group.is_empty() {
        return Ok(());
    }
    match claim(db, *PATIENT, claims, &group, answers).await {
        // Whoever holds it is stuck; the sweep will ask again.
        Err(fault) if fault.is_passing() => Ok(()),
        done => done,
    }
}

async fn claim(
    db: &mut PgConnection,
    sql: &'static str,
    claims: &[Claim],
    group: &[usize],
    answers: &mut [Result<Option<RunRecord>, WriteError>],
) -> Result<(), Fault> {
    let (mut ids, mut sessions) = (Vec::new(), Vec::new());
    let (mut stale_afters, mut datas) = (Vec::new(), Vec::new());
    for claim in group.iter().map(|at| &claims[*at]) {
        ids.push(claim.run_id.0);
        sessions.push(claim.session.0);
        stale_afters.push(span(claim.stale_after));
        datas.push(EventBody::from(EngineTaken { session: claim.session }).data());
    }
    let claimed = sqlx::query(sql)
        .bind(ids)
        .bind(sessions)
        .bind(stale_afters)
        .bind(datas)
        .bind(int4(SNAPSHOT_FORMAT))
        .fetch_all(&mut *db)
        .await?;
    for row in claimed {
        let ord: i32 = row.try_get("ord")?;
        let at = group[ord as usize - 1];
        let taken = Taken::by(&claims[at]);
        answers[at] = match record(db, &row, Some(taken)).await {
            Ok(record) => Ok(Some(record)),
            Err(fault) => {
                put_off(db, &row).await?;
                Err(fault.into_write())
            }
        };
    }
    Ok(())
}

/// The event that a claim adds after the history it reads.
pub(crate) struct Taken(EventBody);

impl Taken {
    fn by(claim: &Claim) -> Self {
        Self(EngineTaken { session: claim.session }.into())
    }

    fn event(self, row: &RunRow) -> Event {
        Event {
            seq: EventSeq(row.next_seq.0 - 1),
            at: row.last_activity_at,
            node: None,
            item: None,
            attempt: None,
            epoch: Some(row.epoch),
            actor: None,
            body: self.0,
        }
    }
}

/// A run's row and its history, from a row of `claim_run.sql` or `load_run.sql`.
pub(crate) async fn record(
    db: &mut PgConnection,
    row: &PgRow,
    taken: Option<Taken>,
) -> Result<RunRecord, Fault> {
    let run = rows::run(row)?;
    let taken = taken.map(|taken| taken.event(&run));
    let next = taken.as_ref().map_or(run.next_seq, |event| event.seq);
    let snapshot = rows::snapshot(row)?;
    let after = snapshot.as_ref().map_or(EventSeq(0), |state| state.last_seq);
    let mut stored = rows::history(row)?;
    if !reaches(&stored, after, next) {
        // The fold could not be read; or the row was changed after the statement had begun, which sees such a row
        // when it takes it, but not the events that came with the change.
        stored = events_between(db, run.id, after, next).await?;
    }
    if !reaches(&stored, after, next) {
        return Err(Fault::damaged(format!(
            "the log of run {} has a gap between {after} and {next}",
            run.id
        )));
    }
    let events = stored.into_iter().map(StoredEvent::read).chain(taken.map(Ok));
    Ok(RunRecord { events: events.collect::<Result<_, _>>()?, row: run, snapshot })
}

/// Whether these are all events after `after` and before `next`.
fn reaches(events: &[StoredEvent], after: EventSeq, next: EventSeq) -> bool {
    let count = next.0.saturating_sub(after.0 + 1) as usize;
    let last = events.last().map_or(after, |event| event.seq);
    events.len() == count && last.next() == next
}

async fn events_between(
    db: &mut PgConnection,
    run_id: RunId,
    after: EventSeq,
    before: EventSeq,
) -> Result<Vec<StoredEvent>, Fault> {
    let found = sqlx::query(query!("load_run.events"))
        .bind(run_id.0)
        .bind(int4(after.0))
        .bind(int4(before.0))
        .fetch_all(db)
        .await?;
    rows::all(&found, rows::event)
}

/// Lets a run go again whose history nobody here can read.
async fn put_off(db: &mut PgConnection, row: &PgRow) -> Result<(), Fault> {
    let id: uuid::Uuid = row.try_get("id")?;
    tracing::error!(run.id = %id, "A run cannot be read; it is put off for {PUT_OFF:?}");
    sqlx::query(query!("claim_run.put_off"))
        .bind(id)
        .bind(row.try_get::<i32, _>("epoch")?)
        .bind(span(PUT_OFF))
        .execute(db)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patient_statement_waits() {
        assert_eq!(PATIENT.len() + SKIP_LOCKED.len(), query!("claim_run").len());
    }
}
