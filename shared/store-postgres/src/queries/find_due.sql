-- Each source is read through its own index, so that a sweep costs what it finds. A run that waits for an engine,
-- one that waits for a time, and one that is held are never the same run; one that waits for a child may wait for a
-- time as well, and comes twice.
--
-- Tenants take turns: of each priority every tenant's oldest run comes before anybody's second.
--
-- Planned once: planning takes ten times as long as finding nothing. So the plan must be right for any size of the table;
-- `offset 0` keeps parents looked up one by one, by their ids.
--
-- `what` is "run", "moved", "group" or "schedule"; there is one row at most for all schedules.
with recursive
n as materialized (
    select clock_timestamp() as now),
-- Parents with a child whose end they have not taken in.
untold as materialized (
    select distinct parent_id
      from workflow_runs
     where parent_id is not null and not parent_told and ended_at is not null),
-- Tenants whose runs wait for an engine, by leaps through the index; no more than there may be runs.
waiting (tenant, leap) as (
    (select tenant, 1
       from workflow_runs
      where lease_owner is null and status in ('queued', 'running')
      order by tenant
      limit 1)
    union all
    select (select r.tenant
              from workflow_runs r
             where r.lease_owner is null and r.status in ('queued', 'running') and r.tenant > w.tenant
             order by r.tenant
             limit 1), w.leap + 1
      from waiting w
     where w.tenant is not null and w.leap < $3)
(select id, tenant, priority, after, null as name, 'run' as what from (
    (select q.id, q.tenant, q.priority, interval '0' as after,
            row_number() over (partition by q.tenant, q.priority order by q.id) as turn
       from waiting w
      cross join lateral (
          select r.id, r.tenant, r.priority
            from workflow_runs r
           where r.tenant = w.tenant and r.lease_owner is null and r.status in ('queued', 'running')
           order by r.priority, r.id
           limit $3) q
      order by priority, turn, id
      limit $3)
    union all
    (select id, tenant, priority, interval '0', row_number() over (partition by tenant, priority order by id) as turn
       from workflow_runs
      where lease_owner is null and status in ('waiting', 'paused', 'canceling', 'compensating') and wake_at is not null
        and wake_at <= (select now from n)
      order by priority, turn, id
      limit $3)
    union all
    (select id, tenant, priority, wake_at - (select now from n), 0
       from workflow_runs
      where lease_owner is null and status in ('waiting', 'paused', 'canceling', 'compensating') and wake_at is not null
        and wake_at > (select now from n) and wake_at <= (select now from n) + $1
      order by wake_at
      limit $3)
    union all
    (select p.id, p.tenant, p.priority, interval '0',
            row_number() over (partition by p.tenant, p.priority order by p.id) as turn
       from untold c
      cross join lateral (
          select r.id, r.tenant, r.priority, r.lease_owner, r.status from workflow_runs r where r.id = c.parent_id offset 0) p
      where p.lease_owner is null and p.status in ('waiting', 'paused', 'canceling', 'compensating')
      order by priority, turn, id
      limit $3)
    union all
    (select r.id, r.tenant, r.priority, interval '0',
            row_number() over (partition by r.tenant, r.priority order by r.id) as turn
       from workflow_runs r
      where r.lease_owner is not null
        and (r.last_activity_at < (select now from n) - $2
             or not exists (select from worker_sessions s
                             where s.id = r.lease_owner and s.expires_at > (select now from n)))
      order by priority, turn, id
      limit $3)) due
 order by after, priority, row_number() over (partition by after, tenant, priority order by id), id
 limit $3)
union all
(select id, tenant, priority, null::interval, null, 'moved' from (
    select id, tenant, priority from workflow_runs where lease_owner = $4 and attention
    union
    select p.id, p.tenant, p.priority
      from untold c
     cross join lateral (
         select r.id, r.tenant, r.priority, r.lease_owner from workflow_runs r where r.id = c.parent_id offset 0) p
     where p.lease_owner = $4) m)
union all
(select distinct null::uuid, tenant, null::int2, null::interval, name, 'group'
   from concurrency_places
  where state = 'freed'
  limit $5)
union all
(select null, null, null, null, null, 'schedule'
  where exists (select from schedules
                 where next_at is not null and deleted_at is null and next_at <= (select now from n)))
