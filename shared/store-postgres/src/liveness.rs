//! Shows other processes that this one lives, so that its death is seen sooner than its sessions end.
//!
//! Each session holds an advisory lock on one connection of the process. Whatever ends the process closes the
//! connection, and the server gives the lock back at once. A lock says nothing about a process that is frozen or cut
//! off: for those the time of the session stays the measure.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use windlass_model::SessionId;

use crate::fault::Fault;
use crate::line::{self, ANSWER_MAX, Line, Purpose, Server};
use crate::query;

/// How often the connection is asked whether it still stands.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Who has just lost the server may judge nobody: after a restart of the server all locks are free, and everyone is
/// given this long to come back.
const STEADY_AFTER: Duration = Duration::from_secs(3);

pub(crate) struct Liveness {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Default)]
struct Shared {
    locks: Mutex<Locks>,
    changed: Notify,
}

#[derive(Default)]
struct Locks {
    wanted: HashSet<i64>,
    held: HashSet<i64>,
    /// Since when the connection stands.
    steady_since: Option<Instant>,
}

impl Liveness {
    /// Connects when there is a first session.
    pub(crate) fn start(server: &Server) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(keep(shared.clone(), Line::new(server, Purpose::Liveness))).abort_handle();
        Self { shared, task }
    }

    /// The key of the session's lock, while it is held. The first call asks for it and does not wait.
    pub(crate) fn key_of(&self, session: SessionId) -> Option<i64> {
        let key = key_of(session);
        let mut locks = self.shared.locks();
        if locks.wanted.insert(key) {
            self.shared.changed.notify_one();
        }
        locks.held.contains(&key).then_some(key)
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.shared.locks().wanted.remove(&key_of(session));
        self.shared.changed.notify_one();
    }

    /// Whether a lock that is free can be taken as a sign.
    pub(crate) fn may_judge(&self) -> bool {
        self.shared.locks().steady_since.is_some_and(|since| since.elapsed() > STEADY_AFTER)
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.locks.lock().expect("no panic while holding it")
    }
}

/// The half of a session's id that is made by chance.
fn key_of(session: SessionId) -> i64 {
    session.0.as_u64_pair().1.cast_signed()
}

async fn keep(shared: Arc<Shared>, mut line: Line) {
    loop {
        if shared.locks().wanted.is_empty() {
            shared.changed.notified().await;
        }
        // Asked anew each time, and that is one round trip a second.
        let kept = match line.connection().await {
            Ok(connection) => line::within(ANSWER_MAX, hold(&shared, connection)).await.is_ok(),
            Err(_) => false,
        };
        if kept {
            let _ = tokio::time::timeout(ASK_EVERY, shared.changed.notified()).await;
        } else {
            line.hang_up();
            let mut locks = shared.locks();
            locks.held.clear();
            locks.steady_since = None;
        }
    }
}

/// Takes the locks that are wanted, gives back those that are not, and asks whether the connection stands.
async fn hold(shared: &Shared, connection: &mut PgConnection) -> Result<(), Fault> {
    let (missing, left): (Vec<i64>, Vec<i64>) = {
        let locks = shared.locks();
        let missing = locks.wanted.difference(&locks.held).copied().collect();
        (missing, locks.held.difference(&locks.wanted).copied().collect())
    };
    for key in missing {
        // Refused for as long as the server has not noticed that an older connection of ours is gone.
        let row = sqlx::query(query!("renew_session.lock")).bind(key).fetch_one(&mut *connection).await?;
        if row.try_get(0)? {
            shared.locks().held.insert(key);
        }
    }
    for key in left {
        sqlx::query(query!("close_session.unlock")).bind(key).execute(&mut *connection).await?;
        shared.locks().held.remove(&key);
    }
    connection.ping().await?;
    shared.locks().steady_since.get_or_insert_with(Instant::now);
    Ok(())
}
