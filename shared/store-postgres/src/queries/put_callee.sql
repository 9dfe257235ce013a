insert into callees (tenant, kind, name, revision, content_hash, risk, created_at, updated_at, spec)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (tenant, kind, name) do update
   set revision = excluded.revision, content_hash = excluded.content_hash, risk = excluded.risk,
       created_at = excluded.created_at, updated_at = excluded.updated_at, spec = excluded.spec, deleted_at = null
