-- The workflow of this name as it stands, hidden or not.
select name, revision, latest_version, content_hash, tags, created_at, updated_at, hidden_at is not null as is_hidden
  from workflows
 where tenant = :tenant and name = :name
