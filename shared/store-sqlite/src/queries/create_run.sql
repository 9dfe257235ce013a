-- The row of a new run. Writes nothing when the definition is not there, is another tenant's, or is not what it is
-- pinned as: 0 inline, 1 a version of a workflow that is not hidden, 2 the latest of them.
insert into workflow_runs (id, tenant, version_id, workflow, workflow_version, status, paused_reason, version, next_seq,
                           epoch, parent_id, priority, wake_at, last_activity_at, created_at, started_at, ended_at,
                           error)
select :run_id, v.tenant, v.id, v.name, v.version, :status, :paused_reason, 1, 2,
       0, :parent_id, :priority, :wake_at, :now, :created_at, :started_at, :ended_at, :error
  from workflow_versions v
 where v.id = :version_id and v.tenant = :tenant
   and (:pin = 0 or exists (select 1 from workflows w
                             where w.id = v.workflow_id and w.hidden_at is null
                               and (:pin = 1 or w.latest_version = v.version)))
