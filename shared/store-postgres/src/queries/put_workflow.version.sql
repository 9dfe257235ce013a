insert into workflow_versions (tenant, workflow_id, name, version, content_hash, spec, created_at)
select tenant, id, name, $3, $4, $5, $6
  from workflows
 where tenant = $1 and name = $2
