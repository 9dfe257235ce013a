update outbox set attempts = attempts + 1, due_at = :due_at, error = :error where id = :id
