select v.id, v.name, v.version, v.content_hash, v.spec, v.created_at from workflow_versions v where v.id = $1
