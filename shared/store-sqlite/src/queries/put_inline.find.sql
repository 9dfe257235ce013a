select id from workflow_versions where tenant = :tenant and content_hash = :hash and workflow_id is null
