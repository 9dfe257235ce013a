-- How long the longest claimable run has waited: for an engine, for its time, for the end of a child to be taken in, or
-- for somebody to take it from a
-- session that is gone. Null when there is none.
with n as materialized (
    select clock_timestamp() as now)
select (select now from n) - min(since) from (
    select min(last_activity_at) as since
      from workflow_runs
     where lease_owner is null and status in ('queued', 'running')
    union all
    select min(wake_at)
      from workflow_runs
     where lease_owner is null and status in ('waiting', 'paused', 'canceling', 'compensating') and wake_at is not null
       and wake_at <= (select now from n)
    union all
    select min(c.ended_at)
      from workflow_runs c
      join workflow_runs p on p.id = c.parent_id
     where c.parent_id is not null and not c.parent_told and c.ended_at is not null and p.lease_owner is null
    union all
    select min(coalesce(s.expires_at, r.last_activity_at))
      from workflow_runs r
      left join worker_sessions s on s.id = r.lease_owner
     where r.lease_owner is not null and coalesce(s.expires_at <= (select now from n), true)) it
