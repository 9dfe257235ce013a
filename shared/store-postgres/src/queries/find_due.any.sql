-- Whether `find_due` would find anything: its sources once more, without the order in which they take turns, because a sweep
-- mostly finds nothing.
with n as materialized (
    select clock_timestamp() as now)
select exists (select from workflow_runs where lease_owner is null and status in ('queued', 'running'))
    or exists (select
                 from workflow_runs
                where lease_owner is null and status in ('waiting', 'paused', 'canceling', 'compensating')
                  and wake_at is not null and wake_at <= (select now from n) + $1)
    or exists (select from workflow_runs where parent_id is not null and not parent_told and ended_at is not null)
    or exists (select
                 from workflow_runs r
                where r.lease_owner is not null
                  and (r.last_activity_at < (select now from n) - $2
                       or not exists (select from worker_sessions s
                                       where s.id = r.lease_owner and s.expires_at > (select now from n))))
    or exists (select from workflow_runs where lease_owner = $3 and attention)
    or exists (select from concurrency_places where state = 'freed')
    or exists (select from schedules where next_at is not null and deleted_at is null and next_at <= (select now from n))
