select 1 from idempotency_keys where tenant = :tenant and principal = :principal and route = :route and key = :key
