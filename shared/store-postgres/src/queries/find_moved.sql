select id, tenant, priority from workflow_runs where lease_owner = $1 and attention
union
select p.id, p.tenant, p.priority
  from workflow_runs c
  join workflow_runs p on p.id = c.parent_id
 where c.parent_id is not null and not c.parent_told and c.ended_at is not null and p.lease_owner = $1
