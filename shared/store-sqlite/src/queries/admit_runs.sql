-- The run gets its place: whoever holds it hears of it, and if nobody does, it wants an engine.
-- The unary + keeps the planner from any index but the primary key.
update workflow_runs
   set version = version + 1,
       next_seq = next_seq + 1,
       last_activity_at = :now,
       status = case when status <> 'waiting' then status when lease_owner is null then 'queued' else 'running' end,
       attention = lease_owner is not null
 where id = :run_id and +tenant = :tenant
   and +status <> 'completed' and +status <> 'failed' and +status <> 'canceled' and +status <> 'canceling'
returning id, tenant, priority, lease_owner, next_seq - 1
