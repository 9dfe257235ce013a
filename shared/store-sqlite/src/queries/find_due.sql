-- Each source is read through its own index. A run that waits for an engine, one that waits for a time, and one that
-- is held are never the same run; one that waits for a child may wait for a time as well, and comes twice.
--
-- Tenants take turns: of each priority every tenant's oldest run comes before anybody's second. To number them, all
-- runs that wait for an engine are read, from the index alone and in its order.
--
-- `what` is "run", "moved", "group" or "schedule"; there is one row at most for all schedules.
with untold as materialized (
    select distinct parent_id from workflow_runs indexed by workflow_runs_untold
     where parent_id is not null and parent_told = 0 and ended_at is not null)
select id, tenant, priority, after, null as name, 'run' as what from (
    select id, tenant, priority, after from (
        select * from (
            select id, tenant, priority, 0 as after, row_number() over (partition by tenant, priority order by id) as turn
              from workflow_runs
             where lease_owner is null and (status = 'queued' or status = 'running')
             order by priority, turn, id
             limit :limit)
        union all
        select * from (
            select id, tenant, priority, 0 as after, row_number() over (partition by tenant, priority order by id) as turn
              from workflow_runs
             where wake_at is not null and lease_owner is null
               and (status = 'waiting' or status = 'paused' or status = 'canceling' or status = 'compensating')
               and wake_at <= :now
             order by priority, turn, id
             limit :limit)
        union all
        select * from (
            select id, tenant, priority, wake_at - :now as after, 0 as turn
              from workflow_runs
             where wake_at is not null and lease_owner is null
               and (status = 'waiting' or status = 'paused' or status = 'canceling' or status = 'compensating')
               and wake_at > :now and wake_at <= :horizon
             order by wake_at
             limit :limit)
        union all
        select * from (
            select p.id, p.tenant, p.priority, 0 as after,
                   row_number() over (partition by p.tenant, p.priority order by p.id) as turn
              from untold c
             cross join workflow_runs p on p.id = c.parent_id
             where +p.lease_owner is null
               and (+p.status = 'waiting' or +p.status = 'paused' or +p.status = 'canceling' or +p.status = 'compensating')
             order by p.priority, turn, p.id
             limit :limit)
        union all
        select * from (
            select id, tenant, priority, 0 as after, row_number() over (partition by tenant, priority order by id) as turn
              from workflow_runs indexed by workflow_runs_held
             where lease_owner is not null
               and (last_activity_at < :stale_before or coalesce(session_expires_at(lease_owner) <= :now, true))
             order by priority, turn, id
             limit :limit))
     order by after, priority, row_number() over (partition by after, tenant, priority order by id), id
     limit :limit)
union all
select id, tenant, priority, null, null, 'moved' from (
    select id, tenant, priority from workflow_runs where lease_owner = :session and attention = 1
    union
    select p.id, p.tenant, p.priority
      from untold c
     cross join workflow_runs p on p.id = c.parent_id
     where +p.lease_owner = :session)
union all
select null, tenant, null, null, name, 'group' from (
    select distinct tenant, name from concurrency_places where state = 'freed' limit :groups_limit)
union all
select null, null, null, null, null, 'schedule'
 where exists (select 1 from schedules where next_at is not null and deleted_at is null and next_at <= :now)
