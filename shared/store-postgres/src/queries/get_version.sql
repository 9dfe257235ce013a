-- One version, or the latest when no number is given.
select v.id, v.name, v.version, v.content_hash, v.spec, v.created_at
  from workflow_versions v
  join workflows w on w.id = v.workflow_id
 where w.tenant = $1 and w.name = $2 and w.hidden_at is null
   and v.version = coalesce($3, w.latest_version)
