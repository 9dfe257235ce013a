-- The row as its log says, if it is still as it was read.
update workflow_runs
   set version = version + 1,
       next_seq = $4,
       epoch = $5,
       parent_id = $6,
       parent_told = parent_told and $6::uuid is not null and $11::timestamptz is not null,
       last_activity_at = clock_timestamp(),
       status = $7,
       paused_reason = $8,
       wake_at = $9,
       started_at = $10,
       ended_at = $11,
       error = $12,
       lease_owner = case when $11::timestamptz is null then lease_owner end,
       attention = $11::timestamptz is null and lease_owner is not null
 where id = $1 and tenant = $2 and version = $3
