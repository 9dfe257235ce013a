-- The last event of each child that has ended and whose end its parent has not taken in.
select c.id as run_id, e.seq, e.at, e.code, e.node, e.item, e.attempt, e.epoch, e.actor, e.data::text as data
  from workflow_runs c
 cross join lateral (
     select *
       from workflow_run_events e
      where e.run_id = c.id and e.seq = c.next_seq - 1) e
 where c.parent_id = $1 and not c.parent_told and c.ended_at is not null and c.tenant = $2
 order by c.id
 limit $3
