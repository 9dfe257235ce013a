-- What stood in the way of a guarded write.
select version, next_seq, lease_owner, epoch, status in ('completed', 'failed', 'canceled') as has_ended
  from workflow_runs
 where id = :run_id and +tenant = :tenant
