-- The callee of this name as it stands, deleted or not.
select name, revision, content_hash, risk, created_at, updated_at, deleted_at is not null as is_deleted
  from callees
 where tenant = :tenant and kind = :kind and name = :name
