//! Turns SIGINT and SIGTERM into a token that everything else watches.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What a shell reports for a process that a signal ended.
const EXIT_BY_SIGNAL: i32 = 128;

/// The two signals by which people and supervisors ask a process to end.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    last_at: Option<Instant>,
}

/// Supervisors signal a process and then its group: the echo of a signal is no second one.
const ECHO: Duration = Duration::from_millis(100);

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the operating system refuses the handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            last_at: None,
        })
    }

    /// Waits for the next signal and returns its number.
    pub async fn next(&mut self) -> i32 {
        loop {
            let kind = tokio::select! {
                _ = self.interrupt.recv() => SignalKind::interrupt(),
                _ = self.terminate.recv() => SignalKind::terminate(),
            };
            let is_echo = self.last_at.is_some_and(|at| at.elapsed() < ECHO);
            self.last_at = Some(Instant::now());
            if !is_echo {
                return kind.as_raw_value();
            }
        }
    }
}

/// The exit code of a process that gave in to `signal`.
pub fn exit_code(signal: i32) -> i32 {
    EXIT_BY_SIGNAL + signal
}

/// A token that the first signal trips. A second signal ends the process at once.
///
/// # Errors
/// When the operating system refuses the handler.
pub fn token() -> io::Result<CancellationToken> {
    let mut signals = Signals::listen()?;
    let token = CancellationToken::new();
    let tripped = token.clone();
    tokio::spawn(async move {
        signals.next().await;
        tripped.cancel();
        info!("Stopping: steps in flight may finish; a second signal ends the process at once");
        let signal = signals.next().await;
        warn!("Stopped at once; what was in flight is taken up again at the next start");
        std::process::exit(exit_code(signal));
    });
    Ok(token)
}
