select kind, name, taken_until, turns, per_ms, burst, rejects
  from rate_limits
 where tenant = $1 and kind = $2 and name = $3
