//! The sweep: finds runs that nobody moves and rings for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_boot::Beat;
use windlass_engine::Engine;
use windlass_store::{Store, StoreError};

/// Runs that one sweep rings for; the next sweep sees the rest.
const SWEEP_PAGE: u32 = 500;
/// How often leftovers are removed, and how old they must be.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(60);
const LEFTOVERS_AGE: Duration = Duration::from_secs(24 * 3600);
const CLEAN_UP_PAGE: u32 = 1_000;

pub(crate) struct Sweep {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) every: Duration,
    pub(crate) stale_after: Duration,
    pub(crate) session_ttl: Duration,
}

impl Sweep {
    pub(crate) async fn run(self, engine: Arc<Engine>, beat: Beat, stop: CancellationToken) {
        let mut turns = tokio::time::interval(self.every);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept_at = Instant::now();
        let mut cleaned_at = Instant::now();
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                () = stop.cancelled() => return,
            }
            if swept_at.elapsed() > self.every + self.session_ttl {
                // This process was asleep: others may have been, too, and deserve time to renew.
                info!(asleep_ms = swept_at.elapsed().as_millis() as u64, "The sweep was late; judging nobody for one session time");
                tokio::time::sleep(self.session_ttl).await;
            }
            swept_at = Instant::now();
            match self.sweep(&engine).await {
                Ok(()) => beat.beat(),
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

    async fn sweep(&self, engine: &Engine) -> Result<(), StoreError> {
        // Twice the interval: what is due before the next sweep is woken by a near timer in time.
        let due = self.store.find_due(self.every * 2, self.stale_after, SWEEP_PAGE).await?;
        for run in due {
            engine.wake(run.run_id, run.priority, run.after);
        }
        Ok(())
    }
}
