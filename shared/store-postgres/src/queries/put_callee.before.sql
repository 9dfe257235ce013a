-- The callee of this name as it stands, deleted or not, until the end of the transaction.
select name, revision, content_hash, risk, created_at, updated_at, deleted_at is not null as is_deleted
  from callees
 where tenant = $1 and kind = $2 and name = $3
   for update
