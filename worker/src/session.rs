//! The heartbeat: renews this worker's session, reads the database's clock, notices what the door wrote.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use windlass_boot::Beat;
use windlass_engine::{Clock, Engine, Lease};
use windlass_store::{Store, point};

/// One row, renewed for all runs of this worker.
pub(crate) struct Session {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) ttl: Duration,
    pub(crate) renew_every: Duration,
}

impl Session {
    /// Its turns are counted from when the worker `began`, as those of the sweep are: so they wake a process that has
    /// nothing to do once.
    pub(crate) async fn run(self, began: Instant, engine: Arc<Engine>, beat: Beat, stop: CancellationToken) {
        let mut turns = tokio::time::interval_at(began, self.renew_every);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = turns.tick() => {}
            }
            match self.renew(&engine).await {
                Ok(()) => beat.beat(),
                Err(error) => warn!(error = %error, "The session could not be renewed"),
            }
        }
    }

    async fn renew(&self, engine: &Engine) -> Result<(), windlass_store::StoreError> {
        let asked_at = Instant::now();
        point("session.before_renewal");
        let renewal = self.store.renew_session(self.lease.session(), self.ttl).await?;
        self.lease.renewed(asked_at, self.ttl);
        self.clock.set(renewal.now, asked_at);
        point("session.renewed");
        // The poke that the door sent may have been lost.
        for ring in renewal.moved {
            engine.poke(ring);
        }
        Ok(())
    }
}
