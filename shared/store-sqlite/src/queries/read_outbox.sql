-- Messages by the time they became due: what failed before takes its turn again.
select id, tenant, run_id, seq, topic, body, created_at, attempts
  from outbox
 where dead_at is null and due_at <= :now
 order by due_at, id
 limit :limit
