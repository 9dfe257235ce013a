//! What every handler is given, and the few things that many of them do.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{MutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_model::{Plan, RunId, RunState, TenantId, Timestamp};
use windlass_store::{Quota, RunRow, StoreError, WriteError};

use crate::Door;
use crate::page::List;
use crate::problem::{Code, Problem, Result};
use crate::published::Published;

/// No answer takes longer, whatever the database does.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the database's time is reckoned from our own clock before it is read again.
const CLOCK_TRUSTED: Duration = Duration::from_secs(5);
/// Queues for writers that collided. Two runs that share one only wait a little longer.
const QUEUES: usize = 64;

pub(crate) type Shared = Arc<App>;

pub(crate) struct App {
    door: Arc<Door>,
    clock: Mutex<Option<(Instant, Timestamp)>>,
    pub published: Published,
    pub quota: Quota,
    streams: Arc<Semaphore>,
    queues: [tokio::sync::Mutex<()>; QUEUES],
    /// Canceled when the process wants to end: waits and streams end then.
    pub closing: CancellationToken,
}

impl Deref for App {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

/// A run as it is at one moment.
#[derive(Clone)]
pub(crate) struct Folded {
    pub row: RunRow,
    pub plan: Arc<Plan>,
    pub state: RunState,
}

impl App {
    pub(crate) fn new(door: Arc<Door>, closing: CancellationToken) -> Self {
        let streams = Arc::new(Semaphore::new(door.options.streams_max));
        let queues = std::array::from_fn(|_| tokio::sync::Mutex::default());
        let quota = Quota::new(door.store.clone(), door.options.open_runs_max);
        let (clock, published) = (Mutex::default(), Published::default());
        Self { door, clock, published, quota, streams, queues, closing }
    }

    /// Waits behind everybody in this process who collided while writing to the same run.
    pub(crate) async fn queue_up(&self, run_id: RunId) -> MutexGuard<'_, ()> {
        // The end of a UUIDv7 is chance.
        self.queues[run_id.0.as_u128() as usize % QUEUES].lock().await
    }

    /// The database's time: read from it now and then, and reckoned in between.
    pub(crate) async fn now(&self) -> Result<Timestamp> {
        let trusted =
            self.clock.lock().expect("no panic while holding it").as_ref().and_then(|(at, then)| {
                let age = at.elapsed();
                (age < CLOCK_TRUSTED).then(|| then.plus(age))
            });
        if let Some(now) = trusted {
            return Ok(now);
        }
        let now = self.store.now().await?;
        *self.clock.lock().expect("no panic while holding it") = Some((Instant::now(), now));
        Ok(now)
    }

    pub(crate) async fn get_run(&self, tenant: TenantId, run_id: RunId) -> Result<RunRow> {
        promptly(self.store.get_run(tenant, run_id)).await??.ok_or_else(|| Problem::not_found("run"))
    }

    pub(crate) async fn fold_run(&self, tenant: TenantId, run_id: RunId) -> Result<Folded> {
        let record = promptly(self.store.load_run(tenant, run_id)).await??;
        let record = record.ok_or_else(|| Problem::not_found("run"))?;
        let plan = self.plans.get(record.row.version_id).await?;
        let state = RunState::fold(&plan, run_id, record.snapshot, &record.events)?;
        Ok(Folded { row: record.row, plan, state })
    }

    pub(crate) async fn get_blob(
        &self,
        tenant: TenantId,
        digest: &windlass_model::Digest,
    ) -> Result<Vec<u8>> {
        let content = self.store.get_blob(tenant, digest).await?;
        content.ok_or_else(|| StoreError::Damaged(format!("blob {digest} is missing")).into())
    }

    /// Permission to hold one more stream open.
    pub(crate) fn open_stream(&self) -> Result<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            Problem::new(Code::StreamLimit, "This process holds as many event streams open as it may.")
        })
    }

    pub(crate) fn list<'a>(&'a self, tenant: TenantId, name: &'static str, filter: String) -> List<'a> {
        List { key: &self.options.cursor_key, tenant, name, filter }
    }
}

/// Bounds what the database may take inside a request that is allowed to wait for other reasons.
pub(crate) async fn promptly<T>(deed: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(ANSWER_WITHIN, deed).await.map_err(|_| Problem::store_is_silent())
}

/// Writes to the end, even when whoever asked for it hangs up in the middle.
///
/// What follows from the write (rings, news) belongs into `deed`, too.
pub(crate) async fn to_the_end<T: Send + 'static>(
    deed: impl Future<Output = Result<T, WriteError>> + Send + 'static,
) -> Result<T, WriteError> {
    match tokio::time::timeout(ANSWER_WITHIN, tokio::spawn(deed)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(StoreError::Refused(error.into()).into()),
        Err(elapsed) => Err(StoreError::Unavailable(elapsed.into()).into()),
    }
}
