//! New runs, a group in one statement.

use std::collections::HashSet;

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};
use uuid::Uuid;
use windlass_model::payload::Blob;
use windlass_model::{EventSeq, TenantId};
use windlass_store::stored::StoredEvent;
use windlass_store::{NewRun, Pin, StoreError, WriteError};

use crate::fault::Fault;
use crate::lane::{Answers, Kind};
use crate::replies::{self, ReplyColumns};
use crate::types::At;
use crate::write_run::refused;
use crate::{blobs, groups, query, schedules};

/// A run whose JSON has been rendered before it reaches the lane.
pub(crate) struct Create {
    event: StoredEvent,
    pub(crate) run: NewRun,
}

impl Create {
    /// # Errors
    /// When the event is not the first of a log.
    pub(crate) fn new(run: NewRun) -> Result<Self, StoreError> {
        let event = StoredEvent::from(&run.event);
        if event.seq != EventSeq(1) {
            return Err(refused(format!("a run's first event has seq 1, not {}", event.seq)));
        }
        Ok(Self { event, run })
    }

    fn key_id(&self) -> Option<Uuid> {
        self.run.remember.as_ref().map(|remember| replies::key_id(self.run.tenant, &remember.key))
    }
}

/// The lane of new runs.
pub(crate) struct Creates;

impl Kind for Creates {
    type Item = Create;
    type Answer = ();

    fn commit<'c>(
        db: &'c mut PgConnection,
        creates: &'c [Create],
    ) -> BoxFuture<'c, Result<Answers<()>, Fault>> {
        Box::pin(async move {
            let (mut group, mut answers) = first_of_each_key(creates);
            let is_row = |Create { run, .. }: &Create| {
                run.blobs.is_empty() && run.group.is_none() && run.firing.is_none()
            };
            let written = if creates.iter().all(is_row) {
                insert(db, &group).await?
            } else {
                let mut transaction = db.begin().await?;
                group = groups::turn_away(&mut transaction, group, &mut answers).await?;
                group = fire(&mut transaction, group, &mut answers).await?;
                let written = insert_whole(&mut transaction, &group).await?;
                transaction.commit().await?;
                written
            };
            for (place, (at, create)) in group.iter().enumerate() {
                if !written.done.contains(&place) {
                    answers[*at] = Err(match (written.known.contains(&place), create.run.pin) {
                        (true, _) => WriteError::KeyTaken,
                        (false, Pin::Inline) => {
                            refused(format!("there is no definition {}", create.run.version_id)).into()
                        }
                        (false, Pin::Version | Pin::Latest) => WriteError::Moved,
                    });
                }
            }
            Ok(answers)
        })
    }
}

/// A key that stands twice in one group is used by whoever came first.
fn first_of_each_key(creates: &[Create]) -> (Vec<(usize, &Create)>, Answers<()>) {
    let (mut keys, mut group, mut answers) = (HashSet::new(), Vec::new(), Vec::new());
    for (at, create) in creates.iter().enumerate() {
        let is_first = create.key_id().is_none_or(|id| keys.insert(id));
        answers.push(if is_first { Ok(()) } else { Err(WriteError::KeyTaken) });
        if is_first {
            group.push((at, create));
        }
    }
    (group, answers)
}

/// Writes the children that steps have started. Wants a transaction around it, which fails if one cannot be written.
pub(crate) async fn write_children(db: &mut PgConnection, children: &[&Create]) -> Result<(), Fault> {
    let group: Vec<_> = children.iter().copied().enumerate().collect();
    let written = insert_whole(db, &group).await?;
    if written.done.len() < group.len() {
        return Err(refused("the definition of a child is not there".to_owned()).into());
    }
    Ok(())
}

/// Takes those out of a batch of new runs whose schedules do not wait for their time any more.
async fn fire<'a>(
    db: &mut PgConnection,
    batch: Vec<(usize, &'a Create)>,
    answers: &mut Answers<()>,
) -> Result<Vec<(usize, &'a Create)>, Fault> {
    let mut due = Vec::new();
    for (at, create) in batch {
        match &create.run.firing {
            Some(firing) if !schedules::fire(db, firing, Some(create.run.id)).await? => {
                answers[at] = Err(WriteError::Moved);
            }
            _ => due.push((at, create)),
        }
    }
    Ok(due)
}

/// Runs with what does not stand on their rows. Wants a transaction around it.
async fn insert_whole(db: &mut PgConnection, group: &[(usize, &Create)]) -> Result<Written, Fault> {
    let written = insert(db, group).await?;
    blobs::keep(db, &content_of(group, &written.done)).await?;
    let runs = written.done.iter().map(|place| &group[*place].1.run);
    let members: Vec<_> =
        runs.filter_map(|run| Some((run.id, run.tenant, run.priority, run.group.as_ref()?))).collect();
    groups::join(db, &members).await?;
    Ok(written)
}

fn content_of<'a>(group: &[(usize, &'a Create)], done: &HashSet<usize>) -> Vec<(TenantId, &'a Blob)> {
    let runs = done.iter().map(|place| &group[*place].1.run);
    runs.flat_map(|run| run.blobs.iter().map(|blob| (run.tenant, blob))).collect()
}

/// Places in the group.
struct Written {
    /// The definition is there, and what it is pinned as.
    known: HashSet<usize>,
    done: HashSet<usize>,
}

async fn insert(db: &mut PgConnection, group: &[(usize, &Create)]) -> Result<Written, Fault> {
    if group.is_empty() {
        return Ok(Written { known: HashSet::new(), done: HashSet::new() });
    }
    let mut runs = RunColumns::default();
    group.iter().for_each(|(_, create)| runs.push(create));
    let has_key_or_labels = |create: &Create| create.run.remember.is_some() || !create.run.labels.is_empty();
    let is_plain = !group.iter().any(|(_, create)| has_key_or_labels(create));
    let query = sqlx::query(if is_plain { query!("create_run") } else { query!("create_run.keyed") })
        .bind(runs.ids)
        .bind(runs.tenants)
        .bind(runs.version_ids)
        .bind(runs.priorities)
        .bind(runs.statuses)
        .bind(runs.paused_reasons)
        .bind(runs.wake_ats)
        .bind(runs.started_ats)
        .bind(runs.ended_ats)
        .bind(runs.errors)
        .bind(runs.ats)
        .bind(runs.codes)
        .bind(runs.actors)
        .bind(runs.datas);
    if is_plain {
        return written(&query.bind(runs.pins).bind(runs.parents).fetch_one(db).await?);
    }
    let (mut replies, mut reply_ords, mut labels) =
        (ReplyColumns::default(), Vec::new(), LabelColumns::default());
    for (ord, (_, create)) in (1..).zip(group) {
        if let (Some(id), Some(remember)) = (create.key_id(), &create.run.remember) {
            reply_ords.push(ord);
            replies.push(id, remember);
        }
        for (key, value) in &create.run.labels {
            labels.ords.push(ord);
            labels.keys.push(key);
            labels.values.push(value);
        }
    }
    let query = query
        .bind(runs.key_ids)
        .bind(reply_ords)
        .bind(replies.ids)
        .bind(replies.principals)
        .bind(replies.routes)
        .bind(replies.keys)
        .bind(replies.requests)
        .bind(replies.statuses)
        .bind(replies.bodies)
        .bind(replies.locations)
        .bind(labels.ords)
        .bind(labels.keys)
        .bind(labels.values)
        .bind(runs.pins)
        .bind(runs.parents);
    written(&query.fetch_one(db).await?)
}

fn written(row: &PgRow) -> Result<Written, Fault> {
    let places = |column| -> Result<HashSet<usize>, Fault> {
        let ords: Option<Vec<i32>> = row.try_get(column)?;
        Ok(ords.unwrap_or_default().into_iter().map(|ord| ord as usize - 1).collect())
    };
    Ok(Written { known: places("known")?, done: places("written")? })
}

#[derive(Default)]
struct LabelColumns<'a> {
    /// The place of the label's run in the group.
    ords: Vec<i32>,
    keys: Vec<&'a str>,
    values: Vec<&'a str>,
}

#[derive(Default)]
struct RunColumns<'a> {
    ids: Vec<Uuid>,
    tenants: Vec<i32>,
    version_ids: Vec<i64>,
    priorities: Vec<i16>,
    statuses: Vec<&'static str>,
    paused_reasons: Vec<Option<&'static str>>,
    wake_ats: Vec<Option<At>>,
    started_ats: Vec<Option<At>>,
    ended_ats: Vec<Option<At>>,
    errors: Vec<Option<&'a str>>,
    ats: Vec<At>,
    codes: Vec<i16>,
    actors: Vec<Option<&'a str>>,
    datas: Vec<&'a str>,
    key_ids: Vec<Option<Uuid>>,
    pins: Vec<i16>,
    parents: Vec<Option<Uuid>>,
}

impl<'a> RunColumns<'a> {
    fn push(&mut self, create: &'a Create) {
        let Create { event, run } = create;
        let projection = &run.projection;
        self.ids.push(run.id.0);
        self.tenants.push(run.tenant.0);
        self.version_ids.push(run.version_id.0);
        self.priorities.push(run.priority.rank());
        self.statuses.push(projection.status.as_str());
        self.paused_reasons.push(projection.paused_reason.map(|reason| reason.as_str()));
        self.wake_ats.push(projection.wake_at.map(At));
        self.started_ats.push(projection.started_at.map(At));
        self.ended_ats.push(projection.ended_at.map(At));
        self.errors.push(projection.error.as_deref());
        self.ats.push(At(event.at));
        self.codes.push(event.code);
        self.actors.push(event.actor.as_deref());
        self.datas.push(&event.data);
        self.key_ids.push(create.key_id());
        self.pins.push(run.pin as i16);
        self.parents.push(run.parent.map(|parent| parent.0));
    }
}
