//! Coming back to a Redis that is away, for ever, and not all at once.

use std::time::Duration;

use redis::RedisResult;
use uuid::Uuid;

/// A server that takes longer to say hello is as good as away.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Between two attempts; doubled up to the second, with as much again by chance.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Grows with every failure, and is gone with the first success.
#[derive(Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    pub(super) fn rewarded(&mut self) {
        self.failures = 0;
    }

    /// Waits a little longer than the last time. Not at all before the first attempt.
    pub(super) async fn wait(&mut self) {
        if self.failures > 0 {
            tokio::time::sleep(pause_after(self.failures)).await;
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// Tries until it works.
    pub(super) async fn until_connected<C, F>(&mut self, connect: impl Fn() -> F) -> C
    where
        F: Future<Output = RedisResult<C>>,
    {
        loop {
            self.wait().await;
            match tokio::time::timeout(CONNECT_MAX, connect()).await {
                Ok(Ok(connection)) => return connection,
                // Once: it goes on like this, a hundred times a minute.
                Ok(Err(error)) if self.failures == 1 => {
                    tracing::warn!(%error, "Redis does not let us in; trying again");
                }
                Err(_) if self.failures == 1 => tracing::warn!("Redis does not answer; trying again"),
                Ok(Err(error)) => tracing::debug!(%error, "Redis does not let us in"),
                Err(_) => tracing::debug!("Redis does not answer"),
            }
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    let longest = PAUSE_FIRST.saturating_mul(1 << failures.min(8)).min(PAUSE_MAX);
    longest / 2 + longest.mul_f64(chance())
}

/// From zero to one, so that processes that lost Redis together do not come back together.
fn chance() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert!(pause_after(1) <= 3 * PAUSE_FIRST);
        assert!(pause_after(u32::MAX) >= PAUSE_MAX / 2 && pause_after(u32::MAX) <= 2 * PAUSE_MAX);
    }
}
