update outbox set dead_at = null, attempts = 0, due_at = :now where id = :id
