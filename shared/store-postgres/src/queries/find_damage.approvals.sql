-- Gates that are open although their run has ended, and gates that nobody requested.
select a.run_id, a.node, a.seq, a.decided_at is null and r.status in ('completed', 'failed', 'canceled') as is_left_open
  from approvals a
  join workflow_runs r on r.id = a.run_id
 where (a.decided_at is null and r.status in ('completed', 'failed', 'canceled'))
    or not exists (select from workflow_run_events e where e.run_id = a.run_id and e.seq = a.seq and e.code = 30)
 limit $1
