update workflow_runs
   set last_activity_at = clock_timestamp()
 where id = $1 and lease_owner is not distinct from $2 and epoch = $3
