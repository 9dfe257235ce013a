//! How many runs of a tenant may be open at once: counted now and then, and reckoned in between.
//!
//! Each process counts for itself, so that a new run costs no row that all of them would have to lock. Several together may
//! exceed the quota by what they start while they trust their counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use windlass_model::{TenantId, planted};

use crate::{Store, StoreError, WriteError};

/// What others start is not known for so long. Who is refused may come again after it.
pub const COUNT_TRUSTED: Duration = Duration::from_secs(1);
/// Tenants whose counts are remembered; all are counted anew when there are more.
const TALLIES_MAX: usize = 10_000;

/// The quota of every tenant, as this process knows it.
pub struct Quota {
    store: Arc<dyn Store>,
    /// None: nothing is counted.
    open_runs_max: Option<u32>,
    tallies: Mutex<HashMap<TenantId, Arc<Tally>>>,
}

/// Why no run may be added.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("as many runs are open as may be: {max}")]
    Full { max: u32 },
}

/// Permission to write one run. Dropped, it is given back.
#[derive(Default)]
#[must_use]
pub struct Place(Option<Arc<Tally>>);

#[derive(Default)]
struct Tally {
    /// Held by the one who counts for all.
    counting: tokio::sync::Mutex<()>,
    figures: Mutex<Figures>,
}

#[derive(Default)]
struct Figures {
    counted: Option<Counted>,
    /// Runs that this process has written so far.
    written: u64,
    /// Places of runs that are being written.
    under_way: u64,
}

#[derive(Clone, Copy)]
struct Counted {
    open: u64,
    began: Instant,
    /// Those were in the database when the count began; of later ones nobody knows whether they were counted.
    written_before: u64,
}

impl Quota {
    pub fn new(store: Arc<dyn Store>, open_runs_max: Option<u32>) -> Self {
        Self { store, open_runs_max, tallies: Mutex::default() }
    }

    /// Takes a place for a new run of this tenant.
    ///
    /// # Errors
    /// When there is none, by a count that began after this was asked. A run that is being written just then may count
    /// twice: near the quota a place may be refused that is free a moment later, and none is given twice.
    pub async fn take(&self, tenant: TenantId) -> Result<Place, QuotaError> {
        let Some(max) = self.open_runs_max else { return Ok(Place::default()) };
        let (tally, asked) = (self.tally(tenant), Instant::now());
        let is_recent = |counted: Counted| asked.duration_since(counted.began) < COUNT_TRUSTED;
        let known = tally.figures().take(max, is_recent);
        match known {
            Some(true) => return Ok(Place(Some(tally))),
            Some(false) if planted("refused_by_an_old_count") => return Err(QuotaError::Full { max }),
            _ => {}
        }
        // One count serves all who came before it began.
        let counting = tally.counting.lock().await;
        let known = tally.figures().take(max, |counted| counted.began > asked);
        let is_taken = match known {
            Some(is_taken) => is_taken,
            None => {
                let (began, written_before) = (Instant::now(), tally.figures().written);
                let open = self.store.count_open_runs(tenant, max).await?;
                let mut figures = tally.figures();
                figures.counted = Some(Counted { open, began, written_before });
                figures.take(max, |_| true) == Some(true)
            }
        };
        drop(counting);
        if is_taken { Ok(Place(Some(tally))) } else { Err(QuotaError::Full { max }) }
    }

    fn tally(&self, tenant: TenantId) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().expect("no panic while holding it");
        if tallies.len() >= TALLIES_MAX && !tallies.contains_key(&tenant) {
            tallies.clear();
        }
        tallies.entry(tenant).or_default().clone()
    }
}

impl Place {
    /// The run was written, or nobody knows: then it counts until the next count tells.
    pub fn settle(mut self, written: &Result<(), WriteError>) {
        let may_be_there = matches!(written, Ok(()) | Err(WriteError::Store(_)));
        if let Some(tally) = self.0.take_if(|_| may_be_there) {
            let mut figures = tally.figures();
            (figures.under_way, figures.written) = (figures.under_way - 1, figures.written + 1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(tally) = self.0.take().filter(|_| !planted("places_are_not_given_back")) {
            tally.figures().under_way -= 1;
        }
    }
}

impl Tally {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().expect("no panic while holding it")
    }
}

impl Figures {
    /// Whether a place was taken; nothing when there is no count to go by.
    fn take(&mut self, max: u32, is_good: impl FnOnce(Counted) -> bool) -> Option<bool> {
        let counted = self.counted.filter(|counted| is_good(*counted))?;
        let written = self.written - counted.written_before;
        let written = if planted("own_starts_are_not_counted") { 0 } else { written };
        let open = counted.open + written + self.under_way;
        let is_free = open < u64::from(max);
        self.under_way += u64::from(is_free);
        Some(is_free)
    }
}
