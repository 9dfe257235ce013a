-- Workflows whose latest version is not there.
select w.name, w.latest_version
  from workflows w
 where not exists (select 1 from workflow_versions v where v.workflow_id = w.id and v.version = w.latest_version)
 limit $1
