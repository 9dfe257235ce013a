update workflows
   set revision = revision + 1, updated_at = :now, hidden_at = :now
 where tenant = :tenant and name = :name and hidden_at is null and (:revision is null or revision = :revision)
