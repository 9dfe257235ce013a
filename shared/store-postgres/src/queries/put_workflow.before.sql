-- The workflow of this name as it stands, hidden or not, until the end of the transaction.
select name, revision, latest_version, content_hash, tags, created_at, updated_at, hidden_at is not null as is_hidden
  from workflows
 where tenant = $1 and name = $2
   for update
