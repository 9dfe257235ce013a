select kind, name, taken_until, turns, per_ms, burst, rejects
  from rate_limits
 where tenant = $1 and (kind, name) > ($2, $3)
 order by kind, name
 limit $4
