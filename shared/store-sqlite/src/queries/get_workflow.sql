select name, revision, latest_version, content_hash, tags, created_at, updated_at
  from workflows
 where tenant = :tenant and name = :name and hidden_at is null
