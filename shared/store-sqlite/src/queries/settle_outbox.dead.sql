update outbox set attempts = attempts + 1, dead_at = :now, error = :error where id = :id
