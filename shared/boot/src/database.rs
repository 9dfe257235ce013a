//! Opens the store that a database URL names.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use windlass_store::Store;
use windlass_store_postgres::{OpenError, PostgresOptions, PostgresStore};
use windlass_store_sqlite::SqliteStore;

use crate::{DatabaseUrl, Settings};

/// A process has so many connections to PostgreSQL beside its pool: for writes, creates, claims and the sweep, and two
/// that show that it lives.
const CONNECTIONS_BESIDE_POOL: usize = 8;

/// Opens the database of these settings. A SQLite file is made and migrated when needed; it belongs to this process
/// alone. A PostgreSQL schema is brought up to date if `migrates`, and must be up to date otherwise.
///
/// # Errors
/// A sentence for people: the file cannot be made, another process owns it, the server cannot be reached, or the
/// schema is from another Windlass.
pub async fn open_store(settings: &Settings, migrates: bool) -> Result<Arc<dyn Store>> {
    match &settings.database_url {
        DatabaseUrl::Sqlite(path) => {
            make_folder_of(path)?;
            let store = SqliteStore::open(path)
                .with_context(|| format!("the database {} cannot be opened", path.display()))?;
            Ok(store)
        }
        DatabaseUrl::Postgres(url) => open_postgres(settings, &url.0, migrates).await,
    }
}

/// Opens the database to look at it, while others may be at work on it.
///
/// # Errors
/// As [`open_store`]; besides, when there is no such database.
pub async fn open_store_to_examine(settings: &Settings) -> Result<Arc<dyn Store>> {
    match &settings.database_url {
        DatabaseUrl::Sqlite(path) if !path.is_file() => bail!("there is no database at {}", path.display()),
        DatabaseUrl::Sqlite(path) => {
            let store = SqliteStore::open_read_only(path)
                .with_context(|| format!("the database {} cannot be opened", path.display()))?;
            Ok(store)
        }
        DatabaseUrl::Postgres(url) => open_postgres(settings, &url.0, false).await,
    }
}

/// Whether a database could not be opened only because it is not there, or not yet.
pub fn is_away(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Connect(_)))
}

async fn open_postgres(settings: &Settings, url: &str, migrates: bool) -> Result<Arc<dyn Store>> {
    let pooled = settings.database_max_connections.saturating_sub(CONNECTIONS_BESIDE_POOL);
    let pooled = u32::try_from(pooled).unwrap_or(u32::MAX);
    let searches_max = (pooled / 3).max(1);
    let options =
        PostgresOptions { lookups_max: pooled.saturating_sub(searches_max).max(1), searches_max, migrates };
    let store = PostgresStore::open_with(url, options)
        .await
        .with_context(|| format!("the database {} cannot be opened", settings.database_url))?;
    Ok(store)
}

fn make_folder_of(file: &Path) -> Result<()> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} for the database cannot be made", folder.display()))
}
