update outbox set dead_at = null, attempts = 0, due_at = clock_timestamp() where id = $1
