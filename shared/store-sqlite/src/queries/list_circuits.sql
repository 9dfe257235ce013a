select kind, name, state, failures, window_ends_at, probe_at, since
  from circuits
 where tenant = :tenant and (kind, name) > (:kind, :name)
 order by kind, name
 limit :limit
