//! What is asked until the database answers.
//!
//! A run that is held must not be let go because one question got no answer: whatever it has in flight would be torn off,
//! and nobody else could take it before it has been silent for long.

use std::time::Duration;

use windlass_store::{PlanError, StoreError};

use crate::order::OrderError;

/// Between two tries while the database is away.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(100);

pub(crate) trait Answer {
    /// Whether the database did not answer at all.
    fn is_silence(&self) -> bool;
}

impl Answer for StoreError {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl Answer for PlanError {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_silence())
    }
}

impl Answer for OrderError {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_silence())
    }
}

pub(crate) async fn patiently<T, E: Answer, F: Future<Output = Result<T, E>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, E> {
    loop {
        match ask().await {
            Err(error) if error.is_silence() => tokio::time::sleep(RETRY_PAUSE).await,
            answer => return answer,
        }
    }
}
