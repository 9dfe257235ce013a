select name, revision, latest_version, content_hash, tags, created_at, updated_at
  from workflows
 where tenant = $1 and hidden_at is null
   and name > $2
   and ($3::text is null or $3 = any (tags))
   and ($4::text is null or contains_ignoring_case(name, $4))
 order by name
 limit $5
