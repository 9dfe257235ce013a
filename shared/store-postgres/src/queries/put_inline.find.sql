select id from workflow_versions where tenant = $1 and content_hash = $2 and workflow_id is null
