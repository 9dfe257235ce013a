-- A run waits for a place. One that has asked before goes on waiting, or has it.
insert into concurrency_places (run_id, tenant, name, places, on_conflict, priority, state)
values (:run_id, :tenant, :name, :places, :on_conflict, :priority, 'waiting')
    on conflict (run_id) do nothing
