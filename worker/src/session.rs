//! The heartbeat: renews this worker's session and reads the database's clock. It touches one row and waits for nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use windlass_boot::Beat;
use windlass_engine::{Clock, Lease};
use windlass_store::{Store, point};

/// One row, renewed for all runs of this worker.
pub(crate) struct Session {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) ttl: Duration,
}

impl Session {
    pub(crate) async fn run(self, mut turns: Interval, beat: Beat, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = turns.tick() => {}
            }
            match self.renew().await {
                Ok(()) => beat.beat(),
                Err(error) => warn!(error = %error, "The session could not be renewed"),
            }
        }
    }

    async fn renew(&self) -> Result<(), windlass_store::StoreError> {
        let asked_at = Instant::now();
        point("session.before_renewal");
        let now = self.store.renew_session(self.lease.session(), self.ttl).await?;
        self.lease.renewed(asked_at, self.ttl);
        self.clock.set(now, asked_at);
        point("session.renewed");
        Ok(())
    }
}
