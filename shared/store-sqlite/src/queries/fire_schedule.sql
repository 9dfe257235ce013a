-- A time has come, if the schedule still waits for this very one: of many who notice, one writes.
update schedules
   set next_at = :next_at, last_at = :at, last_problem = :problem, last_run_id = coalesce(:run_id, last_run_id)
 where tenant = :tenant and name = :name and revision = :revision and next_at = :at and deleted_at is null
