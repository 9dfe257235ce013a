-- Takes a run for an engine, if there is anything to take.
-- The unary + keeps the planner from any index but the primary key.
update workflow_runs
   set lease_owner = :session,
       epoch = epoch + 1,
       version = version + 1,
       next_seq = next_seq + 1,
       last_activity_at = :now,
       started_at = coalesce(started_at, :now),
       status = case when status = 'queued' or status = 'waiting' then 'running' else status end,
       attention = 0
 where id = :run_id
   and +status <> 'completed' and +status <> 'failed' and +status <> 'canceled'
   and case when lease_owner is null
            then status = 'queued' or status = 'running' or coalesce(wake_at <= :now, false)
                 or exists (select 1 from workflow_runs c indexed by workflow_runs_untold
                             where c.parent_id = workflow_runs.id and c.parent_told = 0 and c.ended_at is not null)
            else last_activity_at < :stale_before or coalesce(session_expires_at(lease_owner) <= :now, true)
       end
returning epoch, next_seq - 1
