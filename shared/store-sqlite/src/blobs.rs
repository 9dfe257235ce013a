//! Content by its digest.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::payload::Blob;
use windlass_model::{Digest, TenantId};
use windlass_store::{Blobs, StoreError};

use crate::{SqliteStore, query};

#[async_trait]
impl Blobs for SqliteStore {
    async fn get_blob(&self, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let digest = digest.0.clone();
        self.read(move |db, _| {
            let mut statement = db.prepare_cached(query!("get_blob"))?;
            let found = statement
                .query_row(named_params! { ":tenant": tenant.0, ":digest": digest }, |row| row.get(0))
                .optional()?;
            Ok(found)
        })
        .await
    }
}

pub(crate) fn keep(db: &Connection, tenant: TenantId, blobs: &[Blob]) -> rusqlite::Result<()> {
    for blob in blobs {
        db.prepare_cached(query!("keep_blob"))?.execute(named_params! {
            ":tenant": tenant.0,
            ":digest": blob.digest.0,
            ":content": &blob.content[..],
        })?;
    }
    Ok(())
}
