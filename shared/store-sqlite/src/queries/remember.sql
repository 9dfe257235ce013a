-- Keeps an answer for its key; writes nothing when the key was used before.
insert into idempotency_keys (tenant, principal, route, key, request, status, body, location, created_at)
values (:tenant, :principal, :route, :key, :request, :status, :body, :location, :now)
on conflict (tenant, principal, route, key) do nothing
