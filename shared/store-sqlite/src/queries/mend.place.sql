-- Whoever looks at the group next hands it on.
update concurrency_places
   set state = 'freed'
 where run_id = :run_id and state = 'held'
   and not exists (select 1 from workflow_runs r where r.id = :run_id and r.status not in ('completed', 'failed', 'canceled'))
