-- Differs from SQLite's: says which lock shows that the process lives, while it holds one. And it is one statement: a row for
-- each run of the session that wants its attention, or one without any.
with renewed as (
    insert into worker_sessions as s (id, started_at, renewed_at, expires_at, liveness)
    select $1, n.now, n.now, n.now + $2, $3 from (select clock_timestamp() as now) n
    on conflict (id) do update
       set renewed_at = excluded.renewed_at, expires_at = excluded.expires_at, liveness = excluded.liveness
    returning s.renewed_at as now)
select m.id, m.tenant, m.priority, renewed.now
  from renewed
  left join (
      select id, tenant, priority from workflow_runs where lease_owner = $1 and attention
      union
      select p.id, p.tenant, p.priority
        from workflow_runs c
        join workflow_runs p on p.id = c.parent_id
       where c.parent_id is not null and not c.parent_told and c.ended_at is not null and p.lease_owner = $1) m on true
