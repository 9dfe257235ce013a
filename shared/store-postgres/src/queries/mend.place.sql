-- Whoever looks at the group next hands it on.
update concurrency_places
   set state = 'freed'
 where run_id = $1 and state = 'held'
   and not exists (select from workflow_runs r where r.id = $1 and r.status not in ('completed', 'failed', 'canceled'))
