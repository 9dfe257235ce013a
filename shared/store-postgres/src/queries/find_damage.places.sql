-- Places in groups that are held by runs that have ended, or never were.
select p.run_id, p.name
  from concurrency_places p
  left join workflow_runs r on r.id = p.run_id
 where p.state = 'held' and (r.id is null or r.status in ('completed', 'failed', 'canceled'))
 limit $1
