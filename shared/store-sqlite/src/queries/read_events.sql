select seq, at, code, node, item, attempt, epoch, actor, data
  from workflow_run_events
 where run_id = :run_id and seq > :after
 order by seq
 limit :limit
