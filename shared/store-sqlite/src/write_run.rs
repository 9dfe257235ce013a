//! The hot path: one append to a run, by its engine or by the door.

use rusqlite::{Connection, OptionalExtension, named_params, params};
use windlass_model::{EventSeq, Timestamp};
use windlass_store::stored::{StoredEvent, StoredSnapshot};
use windlass_store::{ApprovalChange, ApprovalDecision, Fence, Guard, OutboxMessage, RunWrite, WriteError};

use crate::fault::Fault;
use crate::rows::{self, Id};
use crate::{blobs, create_run, groups, query, replies};

/// A write whose JSON has been rendered before it reaches the writer's thread.
pub(crate) struct Append {
    events: Vec<StoredEvent>,
    snapshot: Option<StoredSnapshot>,
    /// The first events of the children that it starts.
    first_events: Vec<StoredEvent>,
    write: RunWrite,
}

impl From<RunWrite> for Append {
    fn from(mut write: RunWrite) -> Self {
        let events = std::mem::take(&mut write.events).iter().map(StoredEvent::from).collect();
        let snapshot = write.snapshot.take().map(|state| StoredSnapshot::from(&*state));
        let first_events = write.children.iter().map(|child| StoredEvent::from(&child.event)).collect();
        Self { events, snapshot, first_events, write }
    }
}

impl Append {
    pub(crate) fn run(&self, db: &Connection, now: Timestamp) -> Result<(), Fault> {
        let Self { events, snapshot, first_events, write } = self;
        self.check_order()?;
        // First: to somebody who asks twice, "asked before" says more than "somebody was faster".
        replies::remember(db, write.tenant, write.remember.as_ref(), now)?;
        let matched = self.tick(db, now)? || self.write_row(db, now)?;
        if !matched {
            return Err(self.why(db)?);
        }
        let run_id = Id::from(write.run_id);
        if !events.is_empty() {
            let mut statement = db.prepare_cached(query!("append_event"))?;
            for event in events {
                rows::append_event(&mut statement, run_id, event)?;
            }
        }
        if let Some(snapshot) = snapshot {
            db.prepare_cached(query!("write_run.snapshot"))?.execute(named_params! {
                ":run_id": run_id,
                ":seq": snapshot.seq.0,
                ":format": snapshot.format,
                ":state": snapshot.state,
            })?;
        }
        for change in &write.approvals {
            self.change_approval(db, change, now)?;
        }
        for message in &write.outbox {
            self.send(db, message, now)?;
        }
        for (child, first) in write.children.iter().zip(first_events) {
            create_run::create(db, child, first, now)?;
        }
        for child in &write.finished {
            db.prepare_cached(query!("write_run.finished"))?.execute(named_params! {
                ":run_id": Id::from(*child),
                ":tenant": write.tenant.0,
                ":parent": run_id,
            })?;
        }
        if write.leaves_group {
            groups::leave(db, write.run_id)?;
        }
        Ok(blobs::keep(db, write.tenant, &write.blobs)?)
    }

    fn fence(&self) -> Option<Fence> {
        match self.write.guard {
            Guard::Door => None,
            Guard::Engine(fence) => Some(fence),
        }
    }

    fn first_seq(&self) -> Option<u32> {
        self.events.first().map(|event| event.seq.0)
    }

    fn count(&self) -> u32 {
        self.events.len() as u32
    }

    /// Whether the events follow one another; that they follow the log is the update's condition.
    fn check_order(&self) -> Result<(), Fault> {
        match self.events.windows(2).find(|pair| pair[1].seq != pair[0].seq.next()) {
            None => Ok(()),
            Some(pair) => Err(Fault::refused(format!("event {} follows event {}", pair[1].seq, pair[0].seq))),
        }
    }

    /// The narrow update. False when it does not apply, for whatever reason.
    fn tick(&self, db: &Connection, now: Timestamp) -> Result<bool, Fault> {
        let (Some(fence), projection) = (self.fence(), &self.write.projection) else { return Ok(false) };
        if self.write.release || projection.ended_at.is_some() || projection.error.is_some() {
            return Ok(false);
        }
        let matched = db.prepare_cached(query!("write_run.tick"))?.execute(params![
            Id::from(self.write.run_id),
            self.write.tenant.0,
            self.write.version.0,
            self.first_seq(),
            self.count(),
            now.0,
            Id::from(fence.session),
            fence.epoch.0,
            projection.status.as_str(),
            projection.paused_reason.map(|reason| reason.as_str()),
            projection.wake_at.map(|at| at.0),
            projection.started_at.map(|at| at.0),
        ])?;
        Ok(matched == 1)
    }

    fn write_row(&self, db: &Connection, now: Timestamp) -> Result<bool, Fault> {
        let (fence, projection) = (self.fence(), &self.write.projection);
        let let_go = projection.status.is_terminal() || (fence.is_some() && self.write.release);
        let matched = db.prepare_cached(query!("write_run"))?.execute(named_params! {
            ":run_id": Id::from(self.write.run_id),
            ":tenant": self.write.tenant.0,
            ":version": self.write.version.0,
            ":first_seq": self.first_seq(),
            ":events": self.count(),
            ":now": now.0,
            ":session": fence.map(|fence| Id::from(fence.session)),
            ":epoch": fence.map(|fence| fence.epoch.0),
            ":let_go": let_go,
            ":status": projection.status.as_str(),
            ":paused_reason": projection.paused_reason.map(|reason| reason.as_str()),
            ":wake_at": projection.wake_at.map(|at| at.0),
            ":started_at": projection.started_at.map(|at| at.0),
            ":ended_at": projection.ended_at.map(|at| at.0),
            ":error": projection.error,
        })?;
        Ok(matched == 1)
    }

    /// Why the guarded update found no row.
    fn why(&self, db: &Connection) -> Result<Fault, Fault> {
        let row = db
            .prepare_cached(query!("write_run.why"))?
            .query_row(
                named_params! { ":run_id": Id::from(self.write.run_id), ":tenant": self.write.tenant.0 },
                |row| {
                    let lease = (row.get::<_, Option<Id>>(2)?.map(Into::into), row.get::<_, u32>(3)?);
                    Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?, lease, row.get::<_, bool>(4)?))
                },
            )
            .optional()?;
        let is_mine = |(session, epoch)| {
            self.fence().is_none_or(|fence| session == Some(fence.session) && epoch == fence.epoch.0)
        };
        Ok(match (row, self.fence()) {
            (Some((version, next_seq, lease, has_ended)), _)
                if version == self.write.version.0 && is_mine(lease) && !has_ended =>
            {
                let first = self.first_seq().unwrap_or_default();
                Fault::refused(format!("event {first} where {next_seq} must follow"))
            }
            (Some((_, _, lease, false)), Some(_)) if is_mine(lease) => WriteError::Moved.into(),
            (_, Some(_)) => WriteError::Fenced.into(),
            (_, None) => WriteError::Moved.into(),
        })
    }

    fn change_approval(
        &self,
        db: &Connection,
        change: &ApprovalChange,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        match change {
            ApprovalChange::Opened { node, attempt, seq, expires_at } => {
                self.close_approvals(db, (Some(node), None), ApprovalDecision::Withdrawn, None, now)?;
                db.prepare_cached(query!("write_run.approval_opened"))?.execute(named_params! {
                    ":run_id": Id::from(self.write.run_id),
                    ":seq": seq.0,
                    ":node": node,
                    ":attempt": attempt,
                    ":requested_at": self.time_of(*seq).unwrap_or(now).0,
                    ":expires_at": expires_at.map(|at| at.0),
                })?;
                Ok(())
            }
            ApprovalChange::Closed { node, attempt, decision, by } => {
                self.close_approvals(db, (Some(node), Some(*attempt)), *decision, by.as_deref(), now)
            }
            ApprovalChange::ClosedAll => {
                self.close_approvals(db, (None, None), ApprovalDecision::Withdrawn, None, now)
            }
        }
    }

    fn close_approvals(
        &self,
        db: &Connection,
        (node, attempt): (Option<&str>, Option<u16>),
        decision: ApprovalDecision,
        by: Option<&str>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let mut statement = db.prepare_cached(query!("write_run.approval_closed"))?;
        statement
            .execute(named_params! {
                ":run_id": Id::from(self.write.run_id),
                ":node": node,
                ":attempt": attempt,
                ":decision": decision.as_str(),
                ":by": by,
                ":now": now.0,
            })
            .map(drop)
    }

    fn time_of(&self, seq: EventSeq) -> Option<Timestamp> {
        self.events.iter().find(|event| event.seq == seq).map(|event| event.at)
    }

    fn send(&self, db: &Connection, message: &OutboxMessage, now: Timestamp) -> rusqlite::Result<()> {
        db.prepare_cached(query!("write_run.outbox"))?
            .execute(named_params! {
                ":tenant": self.write.tenant.0,
                ":run_id": Id::from(self.write.run_id),
                ":seq": message.seq.0,
                ":topic": message.topic,
                ":body": message.body.to_string(),
                ":now": now.0,
            })
            .map(drop)
    }
}
