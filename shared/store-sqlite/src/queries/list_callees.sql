select name, revision, content_hash, risk, created_at, updated_at
  from callees
 where tenant = :tenant and kind = :kind and deleted_at is null and name > :after
 order by name
 limit :limit
