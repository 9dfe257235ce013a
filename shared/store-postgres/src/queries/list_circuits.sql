select kind, name, state, failures, window_ends_at, probe_at, since
  from circuits
 where tenant = $1 and (kind, name) > ($2, $3)
 order by kind, name
 limit $4
