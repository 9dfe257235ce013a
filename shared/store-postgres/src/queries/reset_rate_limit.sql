delete from rate_limits where tenant = $1 and kind = $2 and name = $3
