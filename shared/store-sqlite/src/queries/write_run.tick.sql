-- The engine's write while nothing that an index holds has changed: one look-up, one page. Most ticks are this.
-- It matches nothing when the projection differs, or when the guard does not hold: write_run.sql is tried then.
-- The unary + keeps the planner from any index but the primary key, whatever the table looks like.
--
-- ?1 run_id  ?2 tenant  ?3 version  ?4 first seq or null  ?5 count of events  ?6 now  ?7 session  ?8 epoch
-- ?9 status  ?10 paused_reason  ?11 wake_at  ?12 started_at
update workflow_runs
   set version = version + 1, next_seq = next_seq + ?5, last_activity_at = ?6
 where id = ?1 and +tenant = ?2 and version = ?3 and (?4 is null or next_seq = ?4)
   and +lease_owner = ?7 and epoch = ?8 and +attention = 0
   and +status = ?9 and paused_reason is ?10 and +wake_at is ?11 and started_at is ?12
   and ended_at is null and error is null
