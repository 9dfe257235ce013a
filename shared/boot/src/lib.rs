//! What every process does first: read settings, open the store, say that it is alive.

pub mod bus;
pub mod database;
pub mod health;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

pub use bus::open_bus;
pub use database::{is_away, open_store, open_store_to_examine};
pub use health::{Beat, Health};
pub use settings::{DatabaseUrl, LogFormat, Settings, SettingsError};
