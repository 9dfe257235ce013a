select name, revision, latest_version, content_hash, tags, created_at, updated_at
  from workflows
 where tenant = :tenant and hidden_at is null
   and name > :after
   and (:tag is null or exists (select 1 from json_each(tags) where value = :tag))
   and (:text is null or contains_ignoring_case(name, :text))
 order by name
 limit :limit
