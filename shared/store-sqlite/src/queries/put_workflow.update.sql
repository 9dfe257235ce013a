update workflows
   set revision = :revision, latest_version = :latest_version, content_hash = :hash, tags = :tags,
       created_at = :created_at, updated_at = :updated_at, hidden_at = null
 where tenant = :tenant and name = :name
