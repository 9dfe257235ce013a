select name, revision, content_hash, risk, created_at, updated_at, spec
  from callees
 where tenant = :tenant and kind = :kind and name = :name and deleted_at is null
