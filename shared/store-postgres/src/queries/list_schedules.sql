select tenant, name, revision, spec, is_paused, next_at, last_at, last_run_id, last_problem, created_at, updated_at
  from schedules
 where tenant = $1 and deleted_at is null and name > $2
 order by name
 limit $3
