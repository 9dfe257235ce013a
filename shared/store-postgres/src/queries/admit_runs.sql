-- Differs from SQLite's: for a batch, with its events. Runs get their place: whoever holds one hears of it, and one that
-- nobody holds wants an engine.
with c as materialized (
    select r.id
      from workflow_runs r
     where r.id = any ($1::uuid[]) and r.tenant = $2 and r.status not in ('completed', 'failed', 'canceled', 'canceling')
     order by r.id
       for no key update of r),
u as (
    update workflow_runs r
       set version = r.version + 1,
           next_seq = r.next_seq + 1,
           last_activity_at = clock_timestamp(),
           status = case when r.status <> 'waiting' then r.status when r.lease_owner is null then 'queued' else 'running' end,
           attention = r.lease_owner is not null
      from c
     where r.id = c.id
    returning r.id, r.tenant, r.priority, r.lease_owner, r.next_seq - 1 as seq, r.last_activity_at as at),
e as (
    insert into workflow_run_events (run_id, at, seq, code, data)
    select u.id, u.at, u.seq, $3, $4::json
      from u)
select id, tenant, priority, lease_owner, seq, at from u
