update schedules
   set revision = revision + 1, updated_at = clock_timestamp(), deleted_at = clock_timestamp()
 where tenant = $1 and name = $2 and deleted_at is null and ($3::int4 is null or revision = $3)
