update outbox set attempts = attempts + 1, dead_at = clock_timestamp(), error = $2 where id = $1
