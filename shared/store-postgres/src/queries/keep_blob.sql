-- Differs from SQLite's: for a batch. The same content is stored once. In order, so that two batches never wait
-- for each other.
insert into blobs (tenant, digest, size, content)
select x.tenant, x.digest, length(x.content), x.content
  from unnest($1::int4[], $2::text[], $3::bytea[]) as x (tenant, digest, content)
 order by x.tenant, x.digest
on conflict (tenant, digest) do nothing
