-- Runs of the session that want its attention.
select id, tenant, priority from workflow_runs where lease_owner = :session and attention = 1
union
select p.id, p.tenant, p.priority
  from workflow_runs c indexed by workflow_runs_untold
 cross join workflow_runs p on p.id = c.parent_id
 where c.parent_id is not null and c.parent_told = 0 and c.ended_at is not null and +p.lease_owner = :session
