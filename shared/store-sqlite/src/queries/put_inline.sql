insert into workflow_versions (tenant, name, content_hash, spec, created_at)
values (:tenant, :name, :hash, :spec, :now)
on conflict (tenant, content_hash) where workflow_id is null do nothing
