select v.id, v.name, v.version, v.content_hash, v.spec, v.created_at
  from workflow_versions v
  join workflows w on w.id = v.workflow_id
 where w.tenant = $1 and w.name = $2 and w.hidden_at is null
   and ($3::int8 is null or v.version < $3)
 order by v.version desc
 limit $4
