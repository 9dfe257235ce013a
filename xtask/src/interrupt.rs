//! Ctrl-C, and other wishes that this program may end.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its making on, a wish to end this program is noted instead of obeyed.
pub(crate) struct Interrupt {
    runtime: Runtime,
    signals: [Signal; 3],
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let listen = |kind| signal(kind).context("listening to signals");
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        drop(entered);
        Ok(Self { runtime, signals })
    }

    /// Waits for the next wish, or this long.
    pub(crate) fn came_within(&mut self, duration: Duration) -> bool {
        let [interrupt, terminate, hangup] = &mut self.signals;
        self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = hangup.recv() => true,
                () = tokio::time::sleep(duration) => false,
            }
        })
    }
}
