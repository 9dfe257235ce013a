select request, status, body::text, location
  from idempotency_keys
 where id = $1 and tenant = $2 and principal = $3 and route = $4 and key = $5
