select tenant, name, revision, spec, is_paused, next_at, last_at, last_run_id, last_problem, created_at, updated_at
  from schedules
 where next_at is not null and deleted_at is null and next_at <= :now
 order by next_at
 limit :limit
