-- The schedule of this name as it stands, deleted or not.
select tenant, name, revision, spec, is_paused, next_at, last_at, last_run_id, last_problem, created_at, updated_at, deleted_at is not null as is_deleted
  from schedules
 where tenant = :tenant and name = :name
