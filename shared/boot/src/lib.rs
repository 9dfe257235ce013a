//! What every process does first: read settings, open the store, say that it is alive.

pub mod health;

pub use health::{Beat, Health};
