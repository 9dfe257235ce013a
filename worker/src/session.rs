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
    pub(crate) async fn run(self, engine: Arc<Engine>, beat: Beat, stop: CancellationToken) {
        let mut turns = tokio::time::interval(self.renew_every);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
        let now = self.store.renew_session(self.lease.session(), self.ttl).await?;
        self.lease.renewed(asked_at, self.ttl);
        self.clock.set(now, asked_at);
        point("session.renewed");
        // The poke that the door sent may have been lost.
        for ring in self.store.find_moved(self.lease.session()).await? {
            engine.poke(ring);
        }
        Ok(())
    }
}
