-- Differs from SQLite's: for a batch. What stood in the way of guarded writes.
select r.id, r.tenant, r.version, r.next_seq, r.lease_owner, r.epoch,
       r.status in ('completed', 'failed', 'canceled') as has_ended
  from workflow_runs r
 where r.id = any ($1::uuid[])
