//! Opens the store that a database URL names.

use std::sync::Arc;

use anyhow::{Context, Result};
use windlass_store::Store;
use windlass_store_sqlite::SqliteStore;

use crate::{DatabaseUrl, Settings};

/// Opens the database of these settings, creating and migrating it when needed.
///
/// # Errors
/// A sentence for people: the file cannot be made, another process owns it, or it is from a newer Windlass.
pub fn open_store(settings: &Settings) -> Result<Arc<dyn Store>> {
    let DatabaseUrl::Sqlite(path) = &settings.database_url;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} for the database cannot be made", folder.display()))?;
    }
    let store = SqliteStore::open(path)
        .with_context(|| format!("the database {} cannot be opened", path.display()))?;
    Ok(store)
}
