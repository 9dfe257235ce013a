-- The last event of each child that has ended and whose end its parent has not taken in.
select c.id, e.seq, e.at, e.code, e.node, e.item, e.attempt, e.epoch, e.actor, e.data
  from workflow_runs c indexed by workflow_runs_untold
 cross join workflow_run_events e on e.run_id = c.id and e.seq = c.next_seq - 1
 where c.parent_id = :parent and c.parent_told = 0 and c.ended_at is not null and +c.tenant = :tenant
 order by c.id
 limit :limit
