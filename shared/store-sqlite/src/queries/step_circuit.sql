insert into circuits (tenant, kind, name, state, failures, window_ends_at, probe_at, since)
values (:tenant, :kind, :name, :state, :failures, :window_ends_at, :probe_at, :since)
    on conflict (tenant, kind, name) do update
   set state = excluded.state, failures = excluded.failures, window_ends_at = excluded.window_ends_at,
       probe_at = excluded.probe_at, since = excluded.since
