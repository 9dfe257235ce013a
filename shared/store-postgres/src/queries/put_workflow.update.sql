update workflows
   set revision = $3, latest_version = $4, content_hash = $5, tags = $6, created_at = $7, updated_at = $8,
       hidden_at = null
 where tenant = $1 and name = $2
