-- Differs from SQLite's: for a batch. Runs wait for a place; one that has asked before goes on waiting, or has it. One that has
-- ended, or is about to, stands in nobody's way, however late somebody asks for it.
insert into concurrency_places (run_id, tenant, name, places, on_conflict, priority, state)
select x.*, 'waiting'
  from unnest($1::uuid[], $2::int4[], $3::text[], $4::int4[], $5::text[], $6::int2[])
       as x (run_id, tenant, name, places, on_conflict, priority)
 where exists (select from workflow_runs r where r.id = x.run_id and r.tenant = x.tenant and r.ended_at is null for share)
 order by x.run_id
    on conflict (run_id) do nothing
