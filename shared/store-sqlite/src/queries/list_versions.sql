select v.id, v.name, v.version, v.content_hash, v.spec, v.created_at
  from workflow_versions v
  join workflows w on w.id = v.workflow_id
 where w.tenant = :tenant and w.name = :name and w.hidden_at is null
   and (:before is null or v.version < :before)
 order by v.version desc
 limit :limit
