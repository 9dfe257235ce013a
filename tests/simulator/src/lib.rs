//! A whole fleet in one thread, by a virtual clock and a seed.
//!
//! A [`Schedule`] says who asks what and what goes wrong. It is played with the real model, engine, workers and API
//! over a database in memory: the same schedule is the same run, bit for bit. A checker holds everything that
//! happened against the rules of [docs/reliability.md](../../../docs/reliability.md).

pub mod campaign;
mod checks;
mod fleet;
pub mod kept;
mod minimise;
mod people;
#[cfg(feature = "planted")]
pub mod planted;
mod play;
pub mod reach;
mod schedule;
mod strangers;
mod whose;
mod workflows;
mod world;

use std::sync::Arc;

pub use play::Outcome;
pub use schedule::{Asked, Item, Noise, Schedule, What};
pub use whose::Whose;

/// Plays schedules. Making one takes longer than playing one.
pub struct Simulator {
    library: Arc<workflows::Library>,
}

impl Default for Simulator {
    fn default() -> Self {
        Self { library: Arc::new(workflows::Library::open()) }
    }
}

impl Simulator {
    /// The schedule of a seed.
    pub fn schedule(&self, seed: u64) -> Schedule {
        let names: Vec<&str> = self.library.workflows.iter().map(|entry| entry.name.as_str()).collect();
        Schedule::of(seed, &names)
    }

    pub fn play(&self, schedule: &Schedule) -> Outcome {
        play::play(&self.library, schedule, false)
    }

    /// As [`Self::play`], and tells what happened, line by line.
    pub fn tell(&self, schedule: &Schedule) -> Outcome {
        play::play(&self.library, schedule, true)
    }
}
