-- Whether `find_due` would find anything: its sources once more, without the order in which they take turns. That takes a
-- dozen tables of its own before the first row is read, and a sweep mostly finds nothing.
select exists (select 1 from workflow_runs where lease_owner is null and (status = 'queued' or status = 'running'))
    or exists (select 1
                 from workflow_runs
                where wake_at is not null and lease_owner is null
                  and (status = 'waiting' or status = 'paused' or status = 'canceling' or status = 'compensating')
                  and wake_at <= :horizon)
    or exists (select 1
                 from workflow_runs indexed by workflow_runs_untold
                where parent_id is not null and parent_told = 0 and ended_at is not null)
    or exists (select 1
                 from workflow_runs indexed by workflow_runs_held
                where lease_owner is not null
                  and (last_activity_at < :stale_before or coalesce(session_expires_at(lease_owner) <= :now, true)))
    or exists (select 1 from workflow_runs where lease_owner = :session and attention = 1)
    or exists (select 1 from concurrency_places where state = 'freed')
    or exists (select 1 from schedules where next_at is not null and deleted_at is null and next_at <= :now)
