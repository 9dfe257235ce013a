update circuits set probe_at = clock_timestamp()
 where tenant = $1 and kind = $2 and name = $3 and probe_at > clock_timestamp() + $4
