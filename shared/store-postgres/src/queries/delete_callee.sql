update callees
   set revision = revision + 1, updated_at = clock_timestamp(), deleted_at = clock_timestamp()
 where tenant = $1 and kind = $2 and name = $3 and deleted_at is null and ($4::int4 is null or revision = $4)
