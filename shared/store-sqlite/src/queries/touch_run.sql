update workflow_runs
   set last_activity_at = :now
 where id = :run_id and +lease_owner = :session and epoch = :epoch
