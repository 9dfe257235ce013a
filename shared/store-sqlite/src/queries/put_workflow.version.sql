insert into workflow_versions (tenant, workflow_id, name, version, content_hash, spec, created_at)
select tenant, id, name, :version, :hash, :spec, :now
  from workflows
 where tenant = :tenant and name = :name
