select r.id as run_id, r.version_id
  from workflow_runs r
 where not exists (select 1 from workflow_versions v
                    where v.id = r.version_id and v.tenant = r.tenant and v.name = r.workflow
                      and v.version is r.workflow_version)
 limit :limit
