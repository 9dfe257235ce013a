//! Shows that this process lives, and sees when others no longer do.
//!
//! Each session has an advisory lock, which two connections of its process hold together: one of them may be lost and
//! come back, and the lock was never free. A lock that is free in two looks, one after the other, tells of a death
//! within half a second, where the session itself would go on for seconds. It says nothing about a process that is frozen
//! or cut off: for those the time of the session stays the measure. A wrong guess costs a lease, no more: the fence
//! decides who may write.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;
use windlass_model::SessionId;

use crate::fault::Fault;
use crate::line::{self, ANSWER_MAX, Line, Purpose, Server};
use crate::query;
use crate::types::{At, span};

/// Connections that hold the locks of this process.
const HOLDERS: usize = 2;
/// How often the first is asked whose locks are free, which also tells whether it still stands.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the other is asked whether it does, and the first while there is nobody to judge: at the latest, and as a rule
/// with every second renewal. The other may be found out late: it is lost alone, and the first holds the lock; though while
/// nobody is judged who has just lost the server. A process that joins a lonely one, and dies before that has asked again, is
/// missed that much later.
const ASK_EVERY: Duration = Duration::from_millis(2_500);
/// Between the two looks in which a lock must be free: who has lost both connections takes it again in less.
const SUSPECTED_MIN: Duration = Duration::from_millis(150);
/// Who has just lost the server, or sees one that has just started, judges nobody: others have lost it too, and are
/// given this long to come back.
const STEADY_AFTER: Duration = Duration::from_secs(3);
/// Longer than it takes to connect; a session begins without a lock when even that does not suffice.
const FIRST_LOCK_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Liveness {
    shared: Arc<Shared>,
    tasks: [AbortHandle; HOLDERS],
}

#[derive(Default)]
struct Shared {
    locks: Mutex<Locks>,
    changed: [Notify; HOLDERS],
    /// A lock was taken.
    taken: Notify,
    /// Sessions were ended whose process has died.
    death: Notify,
}

#[derive(Default)]
struct Locks {
    wanted: HashSet<i64>,
    held: [HashSet<i64>; HOLDERS],
    /// When one of the connections was lost last.
    lost_at: Option<Instant>,
}

impl Liveness {
    /// Connects when there is a first session.
    pub(crate) fn start(server: &Server) -> Self {
        let shared = Arc::new(Shared::default());
        let tasks = std::array::from_fn(|holder| {
            let line = Line::new(server, Purpose::Liveness);
            tokio::spawn(keep(shared.clone(), holder, line)).abort_handle()
        });
        Self { shared, tasks }
    }

    /// The key of the session's lock, while it is held. The first call asks for the lock, and waits a moment: a process that dies
    /// young shall be missed, too.
    pub(crate) async fn key_of(&self, session: SessionId) -> Option<i64> {
        let key = key_of(session);
        let is_new = self.shared.locks().wanted.insert(key);
        self.shared.tell_holders();
        if is_new {
            let _ = tokio::time::timeout(FIRST_LOCK_MAX, self.shared.taken.notified()).await;
        }
        self.shared.locks().held.iter().any(|held| held.contains(&key)).then_some(key)
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.shared.locks().wanted.remove(&key_of(session));
        self.shared.tell_holders();
    }

    /// Returns when the sessions of a process that has died were ended by us, since the last call or from now on.
    pub(crate) async fn death(&self) {
        self.shared.death.notified().await;
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.locks.lock().expect("no panic while holding it")
    }

    fn tell_holders(&self) {
        self.changed.iter().for_each(Notify::notify_one);
    }

    /// Until the pause is over, or somebody tells of a lock to take or to give back. Renewals tell, too: one that comes in the
    /// last quarter ends it, so that an idle process wakes once for both.
    async fn rest(&self, holder: usize, asked_at: Instant, pause: Duration) {
        while tokio::time::timeout_at(asked_at + pause, self.changed[holder].notified()).await.is_ok() {
            let is_wrong = {
                let locks = self.locks();
                locks.held[holder] != locks.wanted
            };
            if is_wrong || asked_at.elapsed() > pause * 3 / 4 {
                return;
            }
        }
    }

    fn may_judge(&self) -> bool {
        self.locks().lost_at.is_none_or(|at| at.elapsed() > STEADY_AFTER)
    }
}

/// The half of a session's id that is made by chance.
fn key_of(session: SessionId) -> i64 {
    session.0.as_u64_pair().1.cast_signed()
}

async fn keep(shared: Arc<Shared>, holder: usize, mut line: Line) {
    let mut suspects = HashMap::new();
    loop {
        if shared.locks().wanted.is_empty() {
            shared.changed[holder].notified().await;
        }
        let asked_at = Instant::now();
        let mut turn = async |connection: &mut PgConnection| {
            hold(&shared, holder, connection).await?;
            if holder > 0 {
                connection.ping().await?;
                return Ok(ASK_EVERY);
            }
            let has_others = judge(&shared, connection, &mut suspects).await?;
            Ok(if has_others { LOOK_EVERY } else { ASK_EVERY })
        };
        let kept = match line.connection().await {
            Ok(connection) => line::within(ANSWER_MAX, turn(connection)).await.ok(),
            Err(_) => None,
        };
        if let Some(pause) = kept {
            shared.rest(holder, asked_at, pause).await;
        } else {
            line.hang_up();
            suspects.clear();
            let mut locks = shared.locks();
            locks.held[holder].clear();
            locks.lost_at = Some(Instant::now());
        }
    }
}

/// Takes the locks that are wanted, and gives back those that are not.
async fn hold(shared: &Shared, holder: usize, connection: &mut PgConnection) -> Result<(), Fault> {
    let (missing, left): (Vec<i64>, Vec<i64>) = {
        let locks = shared.locks();
        let missing = locks.wanted.difference(&locks.held[holder]).copied().collect();
        (missing, locks.held[holder].difference(&locks.wanted).copied().collect())
    };
    for key in missing {
        let row = sqlx::query(query!("renew_session.lock")).bind(key).fetch_one(&mut *connection).await?;
        if row.try_get(0)? {
            shared.locks().held[holder].insert(key);
            shared.taken.notify_one();
        }
    }
    for key in left {
        sqlx::query(query!("close_session.unlock")).bind(key).execute(&mut *connection).await?;
        shared.locks().held[holder].remove(&key);
    }
    Ok(())
}

/// Ends the sessions whose lock was free when we looked a while ago, and is free still. `suspects` holds them with the
/// time of their last renewal, and since when. Returns whether there are sessions of others.
async fn judge(
    shared: &Shared,
    connection: &mut PgConnection,
    suspects: &mut HashMap<Uuid, (At, Instant)>,
) -> Result<bool, Fault> {
    let ours: Vec<i64> = shared.locks().wanted.iter().copied().collect();
    let query = sqlx::query(query!("end_session.free")).bind(span(STEADY_AFTER)).bind(ours);
    let found = query.fetch_all(&mut *connection).await?;
    let has_others = found.first().ok_or(sqlx::Error::RowNotFound)?.try_get("has_others")?;
    if !shared.may_judge() {
        suspects.clear();
        return Ok(has_others);
    }
    let mut seen = HashMap::new();
    for row in found {
        let Some(session): Option<Uuid> = row.try_get("id")? else { continue };
        let renewed_at: At = row.try_get("renewed_at")?;
        let before = suspects.get(&session).filter(|(renewed_before, _)| *renewed_before == renewed_at);
        let since = before.map_or_else(Instant::now, |(_, since)| *since);
        if since.elapsed() >= SUSPECTED_MIN {
            let query = sqlx::query(query!("end_session")).bind(session).bind(renewed_at);
            if query.execute(&mut *connection).await?.rows_affected() > 0 {
                tracing::info!(%session, "A worker has died; its runs are free");
                shared.death.notify_one();
            }
        } else {
            seen.insert(session, (renewed_at, since));
        }
    }
    *suspects = seen;
    Ok(has_others)
}
