select name, revision, content_hash, risk, created_at, updated_at
  from callees
 where tenant = $1 and kind = $2 and deleted_at is null and name > $3
 order by name
 limit $4
