insert into workflows (tenant, name, revision, latest_version, content_hash, tags, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
