-- A time has come, if the schedule still waits for this very one: of many who notice, one writes.
update schedules
   set next_at = $5, last_at = $4, last_problem = $6, last_run_id = coalesce($7, last_run_id)
 where tenant = $1 and name = $2 and revision = $3 and next_at = $4 and deleted_at is null
