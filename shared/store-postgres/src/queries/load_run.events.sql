-- Differs from SQLite's: up to a seq as well, because it reads what an earlier statement left open.
select seq, at, code, node, item, attempt, epoch, actor, data::text
  from workflow_run_events
 where run_id = $1 and seq > $2 and seq < $3
 order by seq
