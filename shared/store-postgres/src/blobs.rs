//! Content by its digest.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use windlass_model::payload::Blob;
use windlass_model::{Digest, TenantId};
use windlass_store::{Blobs, StoreError};

use crate::fault::Fault;
use crate::{PostgresStore, query};

#[async_trait]
impl Blobs for PostgresStore {
    async fn get_blob(&self, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let digest = digest.0.clone();
        self.lookups
            .find(move |db| {
                Box::pin(async move {
                    let query = sqlx::query(query!("get_blob")).bind(tenant.0).bind(digest);
                    let found = query.fetch_optional(db).await?;
                    Ok(found.map(|row| row.try_get(0)).transpose()?)
                })
            })
            .await
    }
}

/// Keeps what is new of a batch.
pub(crate) async fn keep(db: &mut PgConnection, blobs: &[(TenantId, &Blob)]) -> Result<(), Fault> {
    let (mut tenants, mut digests, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    for (tenant, blob) in blobs {
        tenants.push(tenant.0);
        digests.push(blob.digest.0.as_str());
        contents.push(&blob.content[..]);
    }
    if !digests.is_empty() {
        sqlx::query(query!("keep_blob")).bind(tenants).bind(digests).bind(contents).execute(db).await?;
    }
    Ok(())
}
