//! What every process does first: read settings, open the store, say that it is alive.

pub mod database;
pub mod health;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

pub use database::open_store;
pub use health::{Beat, Health};
pub use settings::{DatabaseUrl, LogFormat, Settings, SettingsError};
