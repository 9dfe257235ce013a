select name, revision, latest_version, content_hash, tags, created_at, updated_at
  from workflows
 where tenant = $1 and name = $2 and hidden_at is null
