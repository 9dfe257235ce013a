//! The sweep: finds runs that nobody moves and rings for them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_boot::Beat;
use windlass_engine::Engine;
use windlass_model::{RunId, planted};
use windlass_store::{DueRun, Store, StoreError, point};

use crate::doorbell::Room;

/// Runs that one sweep rings for; the next sweep sees the rest.
const SWEEP_PAGE: usize = 500;
/// After a full page the next sweep comes so much sooner.
const HASTE: u32 = 10;
/// While rings keep coming, the runs that a sweep would find are most likely those that were rung for. So many
/// turns are left out then; a ring that was lost is made up for all the same.
const TURNS_LEFT_OUT_MAX: u32 = 1;
/// How often leftovers are removed, and how old they must be.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(60);
const LEFTOVERS_AGE: Duration = Duration::from_secs(24 * 3600);
const CLEAN_UP_PAGE: u32 = 1_000;

pub(crate) struct Sweep {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) room: Room,
    pub(crate) every: Duration,
    pub(crate) stale_after: Duration,
    pub(crate) session_ttl: Duration,
}

/// What the loop says of itself.
pub(crate) struct Beats {
    /// It turns.
    pub(crate) sweep: Beat,
    /// This worker takes runs when there are some to take.
    pub(crate) progress: Beat,
}

impl Sweep {
    pub(crate) async fn run(self, engine: Arc<Engine>, beats: Beats, stop: CancellationToken) {
        stop.run_until_cancelled(self.run_for_ever(&engine, &beats)).await;
    }

    async fn run_for_ever(&self, engine: &Engine, beats: &Beats) {
        let mut progress = Progress::default();
        let mut turned_at = Instant::now();
        let mut cleaned_at = Instant::now();
        // The first turn is never left out: somebody may have died before we came.
        let mut left_out = TURNS_LEFT_OUT_MAX;
        let mut pause = Duration::ZERO;
        loop {
            let somebody_died = tokio::time::timeout(pause, self.store.death()).await.is_ok();
            pause = self.every;
            if turned_at.elapsed() > self.every + self.session_ttl {
                // This process was asleep: others may have been, too, and deserve time to renew.
                info!(
                    asleep_ms = turned_at.elapsed().as_millis() as u64,
                    "The sweep was late; judging nobody for one session time"
                );
                tokio::time::sleep(self.session_ttl).await;
            }
            turned_at = Instant::now();
            metrics::gauge!("windlass_runs_held").set(engine.held_count() as f64);
            if !self.room.has_been_idle() && left_out < TURNS_LEFT_OUT_MAX && !somebody_died {
                left_out += 1;
                beats.sweep.beat();
                beats.progress.beat();
                continue;
            }
            left_out = 0;
            match self.sweep(engine).await {
                Ok((due, is_full)) => {
                    beats.sweep.beat();
                    if progress.is_made(&due, engine.taken_count(), self.room.free_places()) {
                        beats.progress.beat();
                    }
                    if is_full && self.room.is_idle() {
                        pause = self.every / HASTE;
                    }
                }
                Err(error) => warn!(error = %error, "The sweep failed; the next one will try again"),
            }
            if cleaned_at.elapsed() > CLEAN_UP_EVERY {
                cleaned_at = Instant::now();
                if let Err(error) = self.store.clean_up(LEFTOVERS_AGE, CLEAN_UP_PAGE).await {
                    warn!(error = %error, "Leftovers could not be removed");
                }
            }
        }
    }

    /// Rings for what is due, as far as there is room for it here: others sweep for themselves. The second value says
    /// that there may be more.
    async fn sweep(&self, engine: &Engine) -> Result<(Vec<DueRun>, bool), StoreError> {
        for (tenant, group) in self.store.find_freed_groups(SWEEP_PAGE as u32).await? {
            if let Err(error) = engine.admit(tenant, &group).await {
                warn!(group, error = %error, "Nobody could be let in; the next sweep will try again");
            }
        }
        let limit = SWEEP_PAGE.min(self.room.free_places());
        if limit == 0 {
            return Ok((Vec::new(), false));
        }
        // Twice the interval: what is due before the next sweep is woken by a near timer in time.
        point("sweep.before");
        let due = self.store.find_due(self.every * 2, self.stale_after, limit as u32).await?;
        if !due.is_empty() {
            point("sweep.found");
        }
        for run in due.iter().filter(|_| !planted("no_sweep")) {
            engine.wake(run.ring, run.after);
        }
        point("sweep.rung");
        let is_full = due.len() == limit && due.iter().all(|run| run.after.is_zero());
        Ok((due, is_full))
    }
}

/// Whether this worker does its share: one that takes nothing, while there is room and the same runs wait from
/// sweep to sweep, is of no use.
#[derive(Default)]
struct Progress {
    waited: HashSet<RunId>,
    taken: u64,
}

impl Progress {
    fn is_made(&mut self, due: &[DueRun], taken: u64, free_places: usize) -> bool {
        let waits: HashSet<RunId> =
            due.iter().filter(|run| run.after.is_zero()).map(|run| run.ring.run_id).collect();
        let somebody_waits_still = !self.waited.is_disjoint(&waits);
        let takes = taken > self.taken;
        (self.waited, self.taken) = (waits, taken);
        takes || free_places == 0 || !somebody_waits_still
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use windlass_model::{Priority, Ring, TenantId};

    use super::*;

    fn due(ids: &[u128], after: Duration) -> Vec<DueRun> {
        let ring = |id: &u128| Ring {
            run_id: RunId(Uuid::from_u128(*id)),
            tenant: TenantId(1),
            priority: Priority::Normal,
        };
        let due = |id| DueRun { ring: ring(id), after };
        ids.iter().map(due).collect()
    }

    #[test]
    fn a_worker_that_takes_nothing_while_the_same_runs_wait_makes_no_progress() {
        let mut progress = Progress::default();
        let now = |ids| due(ids, Duration::ZERO);
        assert!(progress.is_made(&now(&[1, 2]), 0, 10), "they may have been created just now");
        assert!(!progress.is_made(&now(&[2, 3]), 0, 10));
        assert!(progress.is_made(&now(&[2, 3]), 1, 10), "it took one");
        assert!(progress.is_made(&now(&[3]), 1, 0), "it has no room");
        assert!(progress.is_made(&now(&[4]), 1, 10), "others took what waited");
        assert!(progress.is_made(&due(&[4], Duration::from_secs(1)), 1, 10), "not due yet");
        assert!(progress.is_made(&now(&[4]), 1, 10));
        assert!(!progress.is_made(&now(&[4]), 1, 10));
    }
}
