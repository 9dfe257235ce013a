select count(*) from (
    select 1
      from workflow_runs indexed by workflow_runs_by_status
     where tenant = :tenant and status in ('queued', 'running', 'waiting', 'paused', 'canceling', 'compensating')
     limit :limit)
