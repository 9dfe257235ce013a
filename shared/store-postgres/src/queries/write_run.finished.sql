-- Differs from SQLite's: for a batch. Parents have taken in how these children ended.
update workflow_runs r
   set parent_told = true
  from unnest($1::uuid[], $2::int4[], $3::uuid[]) as x (id, tenant, parent_id)
 where r.id = x.id and r.id = any ($1) and r.tenant = x.tenant and r.parent_id = x.parent_id
