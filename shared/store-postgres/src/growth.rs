//! How large the table of runs is, because plans are only as good as the size they were made for.
//!
//! A plan that is made once is made for the table of that moment. For a table of a few rows, reading all of them is
//! the best there is, and the server keeps to that when they have become a million, until its own housekeeping
//! happens to come by. So each connection throws its plans away when the table has doubled.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

/// What comes on top of the double: tables of this size are read in no time.
const SLACK_BYTES: i64 = 128 * 1024;

/// Shared by all connections of a store.
#[derive(Default)]
pub(crate) struct Growth {
    bytes: AtomicI64,
    looked_at: Mutex<Option<Instant>>,
}

impl Growth {
    /// Looks how large the table is, unless somebody has within `every`.
    pub(crate) async fn look(
        &self,
        connection: &mut PgConnection,
        every: Duration,
    ) -> Result<(), sqlx::Error> {
        if self.is_time_to_look(every) {
            // Null while there is no schema yet.
            let row = sqlx::query("select pg_relation_size(to_regclass('workflow_runs'))");
            let bytes: Option<i64> = row.fetch_one(connection).await?.try_get(0)?;
            self.bytes.store(bytes.unwrap_or_default(), Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether plans that were made for `bytes` are too old.
    pub(crate) fn has_outgrown(&self, bytes: i64) -> bool {
        self.bytes() > 2 * bytes + SLACK_BYTES
    }

    fn is_time_to_look(&self, every: Duration) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked_at.is_none_or(|at| at.elapsed() >= every);
        if is_time {
            *looked_at = Some(Instant::now());
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_made_anew_when_the_table_has_doubled() {
        let growth = Growth::default();
        growth.bytes.store(1_000_000, Ordering::Relaxed);
        assert!(growth.has_outgrown(0) && growth.has_outgrown(400_000));
        assert!(!growth.has_outgrown(500_000) && !growth.has_outgrown(2_000_000));
        let hour = Duration::from_secs(3_600);
        assert!(growth.is_time_to_look(hour) && !growth.is_time_to_look(hour));
        assert!(growth.is_time_to_look(Duration::ZERO));
    }
}
