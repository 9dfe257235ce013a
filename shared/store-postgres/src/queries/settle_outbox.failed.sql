update outbox set attempts = attempts + 1, due_at = clock_timestamp() + $2, error = $3 where id = $1
