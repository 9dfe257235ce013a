-- SQLite needs no such statement: there the claim is undone. A run whose history cannot be read is let go and left
-- alone for a while: a newer Windlass may be able to read it.
update workflow_runs
   set version = version + 1, lease_owner = null, attention = false, wake_at = clock_timestamp() + $3,
       status = case when status = 'paused' then status else 'waiting' end
 where id = $1 and epoch = $2 and lease_owner is not null
