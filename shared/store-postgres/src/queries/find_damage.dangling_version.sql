-- Differs from SQLite's: here runs keep no copy of their definition's name.
select r.id as run_id, r.version_id
  from workflow_runs r
 where not exists (select from workflow_versions v where v.id = r.version_id and v.tenant = r.tenant)
 limit $1
