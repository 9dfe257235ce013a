-- A run waits for a place. One that has asked before goes on waiting, or has it; one that has ended stands in nobody's way,
-- however late somebody asks for it.
insert into concurrency_places (run_id, tenant, name, places, on_conflict, priority, state)
select :run_id, :tenant, :name, :places, :on_conflict, :priority, 'waiting'
  from workflow_runs
 where id = :run_id and tenant = :tenant and ended_at is null
    on conflict (run_id) do nothing
