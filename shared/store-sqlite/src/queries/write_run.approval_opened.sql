insert into approvals (run_id, seq, tenant, workflow, node, attempt, requested_at, expires_at)
select :run_id, :seq, tenant, workflow, :node, :attempt, :requested_at, :expires_at
  from workflow_runs
 where id = :run_id
