insert into circuits (tenant, kind, name, state, failures, window_ends_at, probe_at, since)
values ($1, $2, $3, $4, $5, $6, $7, $8)
    on conflict (tenant, kind, name) do update
   set state = excluded.state, failures = excluded.failures, window_ends_at = excluded.window_ends_at,
       probe_at = excluded.probe_at, since = excluded.since
