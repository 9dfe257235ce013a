-- The guarded write of a run's row: by its engine when a session is given, else by the door.
update workflow_runs
   set version = version + 1,
       next_seq = next_seq + :events,
       last_activity_at = :now,
       status = :status,
       paused_reason = :paused_reason,
       wake_at = :wake_at,
       started_at = :started_at,
       ended_at = :ended_at,
       error = :error,
       lease_owner = case when :let_go then null else lease_owner end,
       attention = :session is null and not :let_go and lease_owner is not null
 where id = :run_id and +tenant = :tenant and version = :version and (:first_seq is null or next_seq = :first_seq)
   and +status <> 'completed' and +status <> 'failed' and +status <> 'canceled'
   and (:session is null or (+lease_owner = :session and epoch = :epoch))
