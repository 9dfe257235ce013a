//! Opens the bus between the processes of a fleet.

use std::sync::Arc;

use anyhow::{Context, Result};
use windlass_bus::RedisBus;

use crate::Settings;

/// Begins to connect to the Redis of these settings, which need not be there yet.
///
/// # Errors
/// A sentence for people: none is named, or its address cannot be read.
pub fn open_bus(settings: &Settings) -> Result<Arc<RedisBus>> {
    let url = settings.redis_url.as_ref().context(
        "several processes tell each other news through Redis: set redis_url, as in redis://redis.internal:6379",
    )?;
    RedisBus::connect(&url.0).context("redis_url")
}
