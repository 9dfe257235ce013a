select kind, name, taken_until, turns, per_ms, burst, rejects
  from rate_limits
 where tenant = :tenant and (kind, name) > (:kind, :name)
 order by kind, name
 limit :limit
