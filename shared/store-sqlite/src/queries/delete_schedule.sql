update schedules
   set revision = revision + 1, updated_at = :now, deleted_at = :now
 where tenant = :tenant and name = :name and deleted_at is null and (:revision is null or revision = :revision)
