-- The row of a new run. Writes nothing when the definition is not there, or is another tenant's.
insert into workflow_runs (id, tenant, version_id, workflow, workflow_version, status, paused_reason, version, next_seq,
                           epoch, priority, wake_at, last_activity_at, created_at, started_at, ended_at, error)
select :run_id, v.tenant, v.id, v.name, v.version, :status, :paused_reason, 1, 2,
       0, :priority, :wake_at, :now, :created_at, :started_at, :ended_at, :error
  from workflow_versions v
 where v.id = :version_id and v.tenant = :tenant
