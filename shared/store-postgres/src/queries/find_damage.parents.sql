-- Children of runs that do not exist.
select c.id as run_id
  from workflow_runs c
 where c.parent_id is not null
   and not exists (select 1 from workflow_runs p where p.id = c.parent_id and p.tenant = c.tenant)
 limit $1
