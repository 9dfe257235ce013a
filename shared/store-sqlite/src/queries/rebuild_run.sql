-- The row as its log says, if it is still as it was read.
update workflow_runs
   set version = version + 1,
       next_seq = :next_seq,
       epoch = :epoch,
       parent_id = :parent,
       parent_told = parent_told and :parent is not null and :ended_at is not null,
       last_activity_at = :now,
       status = :status,
       paused_reason = :paused_reason,
       wake_at = :wake_at,
       started_at = :started_at,
       ended_at = :ended_at,
       error = :error,
       lease_owner = case when :ended_at is null then lease_owner end,
       attention = :ended_at is null and lease_owner is not null
 where id = :run_id and tenant = :tenant and version = :version
