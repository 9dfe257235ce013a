select name, revision, content_hash, risk, created_at, updated_at, spec
  from callees
 where tenant = $1 and kind = $2 and name = $3 and deleted_at is null
