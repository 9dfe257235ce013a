select kind, name, state, failures, window_ends_at, probe_at, since, clock_timestamp() as now
  from circuits
 where tenant = $1 and kind = $2 and name = $3
