-- Since when the longest claimable run waits: for an engine, for its time, for the end of a child to be taken in, or for somebody to take it from a
-- session that is gone. Null when there is none.
select min(since) from (
    select min(last_activity_at) as since
      from workflow_runs
     where lease_owner is null and (status = 'queued' or status = 'running')
    union all
    select min(wake_at)
      from workflow_runs
     where wake_at is not null and lease_owner is null
       and (status = 'waiting' or status = 'paused' or status = 'canceling' or status = 'compensating') and wake_at <= :now
    union all
    select min(c.ended_at)
      from workflow_runs c indexed by workflow_runs_untold
     cross join workflow_runs p on p.id = c.parent_id
     where c.parent_id is not null and c.parent_told = 0 and c.ended_at is not null and +p.lease_owner is null
    union all
    select min(coalesce(session_expires_at(lease_owner), last_activity_at))
      from workflow_runs indexed by workflow_runs_held
     where lease_owner is not null and coalesce(session_expires_at(lease_owner) <= :now, true))
