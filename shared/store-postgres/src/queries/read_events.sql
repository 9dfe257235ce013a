select seq, at, code, node, item, attempt, epoch, actor, data::text
  from workflow_run_events
 where run_id = $1 and seq > $2
 order by seq
 limit $3
