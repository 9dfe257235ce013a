-- Differs from SQLite's: for a batch, in its order.
insert into outbox (tenant, run_id, seq, topic, body, created_at, due_at)
select x.tenant, x.run_id, x.seq, x.topic, x.body::json, n.now, n.now
  from unnest($1::int4[], $2::uuid[], $3::int4[], $4::text[], $5::text[])
       with ordinality as x (tenant, run_id, seq, topic, body, ord),
       (select clock_timestamp() as now) n
 order by x.ord
