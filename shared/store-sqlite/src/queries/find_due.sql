-- Each source is read through its own index, so that a sweep costs what it finds. A run that waits for an engine,
-- one that waits for a time, and one that is held are never the same run.
select id, priority, after from (
    select * from (
        select id, priority, 0 as after
          from workflow_runs
         where lease_owner is null and (status = 'queued' or status = 'running' or status = 'canceling')
         order by priority, id
         limit :limit)
    union all
    select * from (
        select id, priority, 0 as after
          from workflow_runs
         where wake_at is not null and lease_owner is null and (status = 'waiting' or status = 'paused')
           and wake_at <= :now
         order by priority, id
         limit :limit)
    union all
    select * from (
        select id, priority, wake_at - :now as after
          from workflow_runs
         where wake_at is not null and lease_owner is null and (status = 'waiting' or status = 'paused')
           and wake_at > :now and wake_at <= :horizon
         order by wake_at
         limit :limit)
    union all
    select * from (
        select id, priority, 0 as after
          from workflow_runs r indexed by workflow_runs_held
         where lease_owner is not null
           and (last_activity_at < :stale_before
                or not exists (select 1 from worker_sessions s
                                where s.id = r.lease_owner and s.expires_at > :now))
         order by priority, id
         limit :limit))
 order by after, priority, id
 limit :limit
