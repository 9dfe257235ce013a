//! The sweep: finds runs that nobody moves and rings for them, makes up for pokes that were lost, lets waiting runs in, and
//! tells of schedules.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_boot::Beat;
use windlass_engine::Engine;
use windlass_model::{RunId, SessionId, planted};
use windlass_store::{DueRun, Store, StoreError, point};

use crate::doorbell::Room;

/// Runs that one sweep rings for; the next sweep sees the rest.
const SWEEP_PAGE: usize = 500;
/// After a full page the next sweep comes so much sooner.
const HASTE: u32 = 10;
/// While rings keep coming, the runs that a sweep would find are most likely those that were rung for. So many
/// turns look for none then; a ring that was lost is made up for all the same.
const TURNS_LEFT_OUT_MAX: u32 = 1;
/// How often leftovers are removed, and how old they must be.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(60);
const LEFTOVERS_AGE: Duration = Duration::from_secs(24 * 3600);
const CLEAN_UP_PAGE: u32 = 1_000;

pub(crate) struct Sweep {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) session: SessionId,
    pub(crate) room: Room,
    /// Told when the time of a schedule has come.
    pub(crate) schedules_are_due: Arc<Notify>,
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
    /// While the engine drains, it sees to what is held here and looks for nothing new.
    pub(crate) async fn run(
        self,
        turns: Interval,
        engine: Arc<Engine>,
        beats: Beats,
        stop: CancellationToken,
    ) {
        stop.run_until_cancelled(self.run_for_ever(turns, &engine, &beats)).await;
    }

    async fn run_for_ever(&self, mut turns: Interval, engine: &Engine, beats: &Beats) {
        let mut progress = Progress::default();
        let mut turned_at = Instant::now();
        let mut clean_up_at = turned_at + CLEAN_UP_EVERY;
        // The first turn is never left out: somebody may have died before we came.
        let mut left_out = TURNS_LEFT_OUT_MAX;
        let mut answered_at = turned_at;
        let mut judges_from = turned_at;
        let mut is_full = false;
        loop {
            let somebody_died = tokio::select! {
                biased;
                () = self.store.death() => true,
                _ = turns.tick() => false,
                () = tokio::time::sleep(self.every / HASTE), if is_full => false,
            };
            turned_at = Instant::now();
            let silent = turned_at - answered_at;
            // Others may have been asleep as well, or were not answered either, and deserve time to renew. A session is renewed
            // twice in its time at the least: what is shorter than half of it ends none.
            if silent > self.every + self.session_ttl / 4 {
                if turned_at >= judges_from {
                    let silent_ms = silent.as_millis() as u64;
                    info!(silent_ms, "The sweep had no answer for long; judging nobody for one session time");
                }
                judges_from = turned_at + self.session_ttl;
            }
            metrics::gauge!("windlass_runs_held").set(engine.held_count() as f64);
            let may_wait = !self.room.has_been_idle() && left_out < TURNS_LEFT_OUT_MAX && !somebody_died;
            let judges = somebody_died || turned_at >= judges_from;
            let limit = if may_wait || !judges || engine.is_draining() {
                left_out += 1;
                0
            } else {
                left_out = 0;
                SWEEP_PAGE.min(self.room.free_places())
            };
            match self.sweep(engine, limit).await {
                Ok(runs) => {
                    answered_at = Instant::now();
                    beats.sweep.beat();
                    if progress.is_made(&runs, engine.taken_count(), self.room.free_places()) {
                        beats.progress.beat();
                    }
                    let is_page_full = limit > 0 && runs.len() == limit;
                    is_full =
                        is_page_full && runs.iter().all(|run| run.after.is_zero()) && self.room.is_idle();
                }
                Err(error) => {
                    is_full = false;
                    warn!(error = %error, "The sweep failed; the next one will try again");
                }
            }
            if turned_at >= clean_up_at {
                let removed = self.store.clean_up(LEFTOVERS_AGE, CLEAN_UP_PAGE).await;
                clean_up_at = turned_at + rest_after_clean_up(*removed.as_ref().unwrap_or(&0));
                if let Err(error) = removed {
                    warn!(error = %error, "Leftovers could not be removed");
                }
            }
        }
    }

    /// Sees to what is due, and returns which runs it rang for: no more than there is room for here, because others sweep
    /// for themselves.
    async fn sweep(&self, engine: &Engine, limit: usize) -> Result<Vec<DueRun>, StoreError> {
        point("sweep.before");
        // Twice the interval: what is due before the next sweep is woken by a near timer in time.
        let due = self.store.find_due(self.session, self.every * 2, self.stale_after, limit as u32).await?;
        // The poke that the door sent may have been lost.
        for ring in due.moved {
            engine.poke(ring);
        }
        if due.has_schedules {
            self.schedules_are_due.notify_one();
        }
        if !due.runs.is_empty() {
            point("sweep.found");
        }
        for run in due.runs.iter().filter(|_| !planted("no_sweep")) {
            engine.wake(run.ring, run.after);
        }
        point("sweep.rung");
        for (tenant, group) in due.groups {
            if let Err(error) = engine.admit(tenant, &group).await {
                warn!(group, error = %error, "Nobody could be let in; the next sweep will try again");
            }
        }
        Ok(due.runs)
    }
}

/// While there is more than one page of leftovers, each turn takes one.
fn rest_after_clean_up(removed: u64) -> Duration {
    if removed < u64::from(CLEAN_UP_PAGE) { CLEAN_UP_EVERY } else { Duration::ZERO }
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
    fn leftovers_are_removed_faster_than_they_come() {
        for (removed, rest) in [(0, CLEAN_UP_EVERY), (999, CLEAN_UP_EVERY), (1_000, Duration::ZERO)] {
            assert_eq!(rest_after_clean_up(removed), rest, "{removed}");
        }
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
