-- SQLite needs no such statement: its one process has one relay.
-- $1 how many   $2 for how long nobody else is given them
with t as materialized (
    select id, due_at
      from outbox
     where dead_at is null and due_at <= (select clock_timestamp())
     order by due_at, id
     limit $1
       for update skip locked),
u as (
    update outbox o
       set due_at = clock_timestamp() + $2
      from t
     where o.id = t.id
    returning o.id, o.tenant, o.run_id, o.seq, o.topic, o.body, o.created_at, o.attempts, t.due_at as was_due_at)
select id, tenant, run_id, seq, topic, body::text, created_at, attempts
  from u
 order by was_due_at, id
