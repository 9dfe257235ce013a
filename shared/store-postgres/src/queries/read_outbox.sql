-- Messages by the time they became due: what failed before takes its turn again.
select id, tenant, run_id, seq, topic, body::text, created_at, attempts
  from outbox
 where dead_at is null and due_at <= (select clock_timestamp())
 order by due_at, id
 limit $1
