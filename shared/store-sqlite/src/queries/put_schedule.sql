-- What became of its times stays, unless it had been deleted: a time may come between the look at it and this.
insert into schedules (tenant, name, revision, spec, is_paused, next_at, created_at, updated_at)
values (:tenant, :name, :revision, :spec, :is_paused, :next_at, :created_at, :updated_at)
    on conflict (tenant, name) do update
   set revision = excluded.revision, spec = excluded.spec, is_paused = excluded.is_paused, next_at = excluded.next_at,
       last_at = case when schedules.deleted_at is null then schedules.last_at end,
       last_run_id = case when schedules.deleted_at is null then schedules.last_run_id end,
       last_problem = case when schedules.deleted_at is null then schedules.last_problem end,
       created_at = excluded.created_at, updated_at = excluded.updated_at, deleted_at = null
