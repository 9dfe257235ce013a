//! The store of the simulator and of unit tests: everything in memory, nothing survives.

mod callees;
mod circuits;
mod faults;
mod groups;
mod integrity;
mod rate_limits;
mod runs;
mod schedules;
mod sessions;
mod tables;
mod workflows;

use std::sync::{Arc, Mutex};

use windlass_model::Timestamp;

pub use faults::Faults;
use faults::NextWrite;
use tables::Tables;

use crate::{Clock, StoreError, WriteError};

/// Keeps what a database would keep, for as long as the process lives.
///
/// One lock stands for the transaction: a method checks everything first and writes only then.
pub struct MemoryStore {
    tables: Mutex<Tables>,
    clock: Arc<Clock>,
    faults: Faults,
}

impl MemoryStore {
    pub fn new() -> Arc<Self> {
        Self::with_clock(Arc::new(Clock::system()))
    }

    /// A store whose leases and timers go by this clock.
    pub fn with_clock(clock: Arc<Clock>) -> Arc<Self> {
        Arc::new(Self { tables: Mutex::default(), clock, faults: Faults::default() })
    }

    /// Another database that holds the same and goes its own way, by a clock that stands still: for whoever tries
    /// everything that can come next.
    pub fn fork(&self) -> Arc<Self> {
        let tables = self.tables.lock().expect("a panic under this lock has failed the test already").clone();
        let clock = Arc::new(Clock::fixed(self.clock.now()));
        Arc::new(Self { tables: Mutex::new(tables), clock, faults: Faults::default() })
    }

    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Where tests say what shall go wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Tables, Timestamp) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.faults.before_read()?;
        let tables = self.tables.lock().expect("a panic under this lock has failed the test already");
        work(&tables, self.clock.now())
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut Tables, Timestamp) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let next = self.faults.before_write()?;
        if next == NextWrite::LostBeforeCommit {
            return Err(faults::lost_answer().into());
        }
        let mut tables = self.tables.lock().expect("a panic under this lock has failed the test already");
        let done = work(&mut tables, self.clock.now())?;
        if next == NextWrite::LostAfterCommit {
            return Err(faults::lost_answer().into());
        }
        Ok(done)
    }

    /// For writes that no guard can refuse.
    fn write_always<T>(
        &self,
        work: impl FnOnce(&mut Tables, Timestamp) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write(|tables, now| work(tables, now).map_err(WriteError::from)).map_err(|error| match error {
            WriteError::Store(error) => error,
            other => StoreError::Refused(Box::new(other)),
        })
    }
}
