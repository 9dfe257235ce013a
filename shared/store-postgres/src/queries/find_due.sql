-- Each source is read through its own index, so that a sweep costs what it finds. A run that waits for an engine,
-- one that waits for a time, and one that is held are never the same run.
with n as materialized (
    select clock_timestamp() as now)
select id, priority, after from (
    (select id, priority, interval '0' as after
       from workflow_runs
      where lease_owner is null and status in ('queued', 'running', 'canceling')
      order by priority, id
      limit $3)
    union all
    (select id, priority, interval '0'
       from workflow_runs
      where lease_owner is null and status in ('waiting', 'paused') and wake_at is not null
        and wake_at <= (select now from n)
      order by priority, id
      limit $3)
    union all
    (select id, priority, wake_at - (select now from n)
       from workflow_runs
      where lease_owner is null and status in ('waiting', 'paused') and wake_at is not null
        and wake_at > (select now from n) and wake_at <= (select now from n) + $1
      order by wake_at
      limit $3)
    union all
    (select r.id, r.priority, interval '0'
       from workflow_runs r
      where r.lease_owner is not null
        and (r.last_activity_at < (select now from n) - $2
             or not exists (select from worker_sessions s
                             where s.id = r.lease_owner and s.expires_at > (select now from n)))
      order by r.priority, r.id
      limit $3)) due
 order by after, priority, id
 limit $3
