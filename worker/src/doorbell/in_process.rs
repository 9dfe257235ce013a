//! The doorbell's source inside one process.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use windlass_bus::Rings;
use windlass_model::RunId;

/// Rings taken from the queue at once.
const RINGS_PER_TURN_MAX: usize = 64;

/// Carries rings to the worker, as fast as it takes them, until `stop`.
pub(crate) async fn carry(rings: Rings, to: mpsc::Sender<RunId>, stop: CancellationToken) {
    loop {
        let taken = tokio::select! {
            taken = rings.take(RINGS_PER_TURN_MAX) => taken,
            () = stop.cancelled() => return,
        };
        for run_id in taken {
            if to.send(run_id).await.is_err() {
                return;
            }
        }
    }
}
