insert into workflow_versions (tenant, name, content_hash, spec, created_at)
values ($1, $2, $3, $4, clock_timestamp())
on conflict (tenant, content_hash) where workflow_id is null do nothing
returning id
