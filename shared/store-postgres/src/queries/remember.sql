-- Differs from SQLite's: for a batch. Keeps answers for their keys, and returns the keys that were free. In order, so
-- that two batches never wait for each other.
insert into idempotency_keys (id, tenant, principal, route, key, request, status, body, location, created_at)
select x.id, x.tenant, x.principal, x.route, x.key, x.request, x.status, x.body::json, x.location, clock_timestamp()
  from unnest($1::uuid[], $2::int4[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int4[], $8::text[], $9::text[])
       as x (id, tenant, principal, route, key, request, status, body, location)
 order by x.id
on conflict (id) do nothing
returning id
